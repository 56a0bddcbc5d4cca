"""Crop, flip and cutout of whole batches, on the model's device.

A loader's worker augments image after image; a GPU that trains small images
waits for it. Here the loader packs raw images, and these transforms do what
mmpretrain's transforms of the same options do, with other random numbers.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.dist import get_rank
from mmengine.model import BaseDataPreprocessor
from mmengine.registry import MODELS, TRANSFORMS
from torch import Generator, Tensor

from ..checks import is_number, require
from ..engine.randomness import step_generator

Fill = float | Sequence[float]  # of a pixel: of all channels, or of each


def pair(name: str, size: Any) -> tuple[int, int]:
    """A height and width, from both or one number for both."""
    height, width = size if isinstance(size, Sequence) else (size, size)
    require(
        all(isinstance(side, int) and side > 0 for side in (height, width)),
        f'{name}={size!r} is no size: give pixels, such as {name}=32 or '
        f'{name}=(32, 32).')
    return height, width


def check_prob(prob: Any) -> None:
    """Refuses what is no probability."""
    require(is_number(prob) and 0 <= prob <= 1,
            f'prob={prob!r} is no probability: give 0 <= prob <= 1.')


def filling(images: Tensor, value: Fill) -> Tensor:
    """A pixel's value for each channel, shape (1, C or 1, 1, 1)."""
    values = value if isinstance(value, Sequence) else (value, )
    require(
        len(values) in (1, images.shape[1]),
        f'pad_val={value!r} has {len(values)} values and the images have '
        f'{images.shape[1]} channels: give one value, or one for each.')
    return torch.tensor(
        values, dtype=images.dtype, device=images.device).view(1, -1, 1, 1)


def chance(images: Tensor, prob: float, generator: Generator) -> Tensor:
    """True with a probability, for each image, shape (b, 1, 1, 1)."""
    return torch.rand(len(images), 1, 1, 1, device=images.device,
                      generator=generator) < prob


@TRANSFORMS.register_module()
class BatchRandomCrop:
    """Crops each image of a batch at a place of its own.

    Args:
        crop_size (int | tuple[int]): Height and width, in pixels.
        padding (int): What is added on each side first, in pixels. Defaults
            to 0.
        pad_val (float | Sequence[float]): The value of these pixels.
            Defaults to 0.

    Raises:
        ValueError: For options out of range, or images that are too small.
    """

    def __init__(self, crop_size: int | tuple[int, int], padding: int = 0,
                 pad_val: Fill = 0) -> None:
        self.crop_size = pair('crop_size', crop_size)
        require(isinstance(padding, int) and padding >= 0,
                f'padding={padding!r} must be pixels, at least 0.')
        self.padding = padding
        self.pad_val = pad_val

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        size, pad = images.shape[-2:], self.padding
        slack = [n + 2 * pad - c for n, c in zip(size, self.crop_size)]
        require(
            min(slack) >= 0,
            f'Images of {tuple(size)} pixels, padded by {pad}, are smaller '
            f'than crop_size={self.crop_size}: raise padding.')
        fill = filling(images, self.pad_val)
        padded = F.pad(images, (pad, ) * 4)
        inside = F.pad(torch.ones_like(images[:1, :1]), (pad, ) * 4)
        padded = torch.where(inside.bool(), padded, fill)
        rows, columns = (
            torch.randint(room + 1, (len(images), 1), device=images.device,
                          generator=generator) +
            torch.arange(side, device=images.device)
            for room, side in zip(slack, self.crop_size))
        batch = torch.arange(len(images), device=images.device)
        cropped = padded[batch.view(-1, 1, 1), :, rows.unsqueeze(2),
                         columns.unsqueeze(1)]
        return cropped.permute(0, 3, 1, 2)


@TRANSFORMS.register_module()
class BatchRandomFlip:
    """Mirrors each image of a batch from left to right, with a probability.

    Args:
        prob (float): The probability. Defaults to 0.5.

    Raises:
        ValueError: If it is no probability.
    """

    def __init__(self, prob: float = 0.5) -> None:
        check_prob(prob)
        self.prob = prob

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        flipped = chance(images, self.prob, generator)
        return torch.where(flipped, images.flip(-1), images)


@TRANSFORMS.register_module()
class BatchCutout:
    """Fills a rectangle of each image of a batch, with a probability.

    As in mmcv, its center is a uniform point of the image. What lies above
    or left of the image moves the rectangle, what lies below or right is cut.

    Args:
        shape (int | tuple[int]): Height and width, in pixels.
        pad_val (float | Sequence[float]): The value of these pixels.
            Defaults to 128.
        prob (float): The probability. Defaults to 0.5.

    Raises:
        ValueError: For options out of range.
    """

    def __init__(self, shape: int | tuple[int, int], pad_val: Fill = 128,
                 prob: float = 0.5) -> None:
        check_prob(prob)
        self.shape = pair('shape', shape)
        self.pad_val = pad_val
        self.prob = prob

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        cut = chance(images, self.prob, generator)
        for dim, side in zip((2, 3), self.shape):
            size = images.shape[dim]
            center = size * torch.rand(
                len(images), device=images.device, generator=generator)
            first = (center - side / 2).clamp(min=0).long().view(-1, 1)
            pixel = torch.arange(size, device=images.device)
            within = (pixel >= first) & (pixel < first + side)
            cut = cut & within.unsqueeze(1).unsqueeze(5 - dim)
        return torch.where(cut, filling(images, self.pad_val), images)


@MODELS.register_module()
class BatchAugmentDataPreprocessor(BaseDataPreprocessor):
    """Augments the images of a training batch at once, then preprocesses.

    The images arrive as the loader packs them, and are augmented where the
    model is. Each image has random numbers of its own, drawn from PyTorch's
    generator and the process's rank, so that a training that resumes exactly
    (:class:`ExactResumeEpochBasedTrainLoop`) is augmented as it would have
    been.

    Args:
        preprocessor (dict): Config of the model's data preprocessor, with
            its type, such as mmpretrain's ClsDataPreprocessor.
        transforms (Sequence[dict]): Configs of transforms, of
            :class:`BatchRandomCrop`, :class:`BatchRandomFlip`,
            :class:`BatchCutout`, or of your own: a callable that is given
            images, shape (b, C, H, W), and a generator on their device, and
            returns images.
        **options: Added to the preprocessor's, where it does not say
            otherwise: mmpretrain's classifiers give it batch_augments.

    Raises:
        ValueError: In training, if the images of a batch are not one tensor.

    Example:
        >>> data_preprocessor = dict(
        ...     type='BatchAugmentDataPreprocessor',
        ...     preprocessor=dict(type='ClsDataPreprocessor', num_classes=10),
        ...     transforms=[
        ...         dict(type='BatchRandomCrop', crop_size=32, padding=4),
        ...         dict(type='BatchRandomFlip')])
    """

    def __init__(self, preprocessor: dict[str, Any],
                 transforms: Sequence[dict[str, Any]], **options: Any) -> None:
        super().__init__()
        self.preprocessor = MODELS.build({**options, **preprocessor})
        self.transforms = [TRANSFORMS.build(cfg) for cfg in transforms]

    def forward(self, data: dict[str, Any], training: bool = False) -> Any:
        """The batch as the model's own preprocessor returns it.

        Args:
            data (dict): The batch of the loader, with ``inputs``.
            training (bool): Whether the images are augmented. Defaults to
                False.

        Returns:
            dict: What the preprocessor returns.
        """
        if training:
            data = {**data, 'inputs': self.augment(data['inputs'])}
        return self.preprocessor(data, training)

    def augment(self, images: Tensor) -> Tensor:
        """Images after all transforms, on this module's device.

        Args:
            images (Tensor): Shape (b, C, H, W).

        Returns:
            Tensor: Shape (b, C, H', W').
        """
        require(
            isinstance(images, Tensor) and images.ndim == 4,
            'BatchAugmentDataPreprocessor needs the images of a batch as one '
            'tensor: give the loader collate_fn=dict(type='
            "'default_collate') and images of one size.")
        images = images.to(self.device, non_blocking=True)
        drawn = int(torch.randint(2**62, ()))
        generator = step_generator(drawn, get_rank(), device=images.device)
        for transform in self.transforms:
            images = transform(images, generator)
        return images
