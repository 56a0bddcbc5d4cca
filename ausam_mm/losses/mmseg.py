"""Rules for mmsegmentation's losses, by name: mmseg is not imported.

Losses without a rule are evaluated on each image alone, which is right for
them: Tversky and Hausdorff distance.
"""

from typing import Any

import torch
from torch import Tensor

from .rules import (
    call_arguments,
    refuse_per_sample_loss,
    register_per_sample_loss,
)


def unreduced(module: Any, args: tuple[Any, ...],
              kwargs: dict[str, Any]) -> tuple[Tensor, str]:
    """What a module returns for each pixel or image, and its reduction.

    Returns:
        tuple[Tensor, str]: Losses of shape (N, ...), and 'mean' or 'sum'.

    Raises:
        ValueError: If its pixels are weighted, or divided by a number that
            the caller gives.
    """
    arguments = call_arguments(module, args, kwargs)
    if arguments.pop('weight', None) is not None:
        raise ValueError(
            'its pixels have weights, as a sampler such as OHEMPixelSampler '
            'gives them, which ranks the pixels of the whole batch')
    avg_factor = arguments.pop('avg_factor', None)
    if avg_factor is not None:
        raise ValueError(f'its avg_factor is {avg_factor}, a number of the '
                         'whole batch')
    reduction = arguments.pop('reduction_override', None) or module.reduction
    losses: Tensor = module.forward(**arguments, reduction_override='none')
    return losses, reduction


@register_per_sample_loss('mmseg.DiceLoss', 'mmseg.FocalLoss',
                          'mmseg.LovaszLoss', 'mmseg.SiLogLoss')
def image_loss(module: Any, *args: Any, **kwargs: Any) -> Tensor:
    """All pixels of all images count the same, or all images."""
    if not getattr(module, 'per_image', True):
        raise ValueError('with per_image=False it ranks the pixels of the '
                         'whole batch')
    losses, reduction = unreduced(module, args, kwargs)
    losses = losses.reshape(len(losses), -1)
    return losses.sum(1) if reduction == 'sum' else losses.mean(1)


def counted_pixels(module: Any, label: Tensor,
                   ignore_index: int | None) -> Tensor | None:
    """The pixels of each image that are not ignored, or their class weights.

    Args:
        module (nn.Module): mmseg's CrossEntropyLoss.
        label (Tensor): Classes, shape (N, ...).
        ignore_index (int, optional): The class that is ignored.

    Returns:
        Tensor, optional: Shape (N, ); None where the module divides by the
        number of all pixels.
    """
    weighted = module.class_weight is not None and not module.use_sigmoid
    if module.reduction != 'mean' or not (module.avg_non_ignore or weighted):
        return None
    counted = label != (-100 if ignore_index is None else ignore_index)
    if module.use_sigmoid:  # also with other numbers below 0
        counted &= label >= 0
    counts = counted.float()
    if weighted:
        weights = torch.as_tensor(
            module.class_weight, dtype=torch.float32, device=label.device)
        counts = weights[label.where(counted, 0)] * counted
    return counts.reshape(len(label), -1).sum(1)


@register_per_sample_loss('mmseg.CrossEntropyLoss',
                          labels=('label', 'ignore_index'),
                          counts=counted_pixels)
def cross_entropy(module: Any, *args: Any, **kwargs: Any) -> Tensor:
    """By default it is divided by all pixels, those ignored included."""
    if module.use_mask:
        raise ValueError('its masks are those of regions, not of samples')
    losses, reduction = unreduced(module, args, kwargs)
    arguments = call_arguments(module, args, kwargs)
    label = arguments['label']
    counts = counted_pixels(module, label, arguments.get('ignore_index'))
    # With a sigmoid each pixel counts once for each class.
    maps = losses.numel() // label.numel()
    losses = losses.reshape(len(label), -1)
    if counts is not None:
        losses = losses / maps
    elif reduction == 'mean':
        return losses.mean(1)
    return losses.sum(1)


refuse_per_sample_loss('it ranks the pixels of the whole batch',
                       'mmseg.OhemCrossEntropy')
refuse_per_sample_loss('its weights are the numbers of pixels on and off the '
                       'boundaries in the whole batch', 'mmseg.BoundaryLoss')
