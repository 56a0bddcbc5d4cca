"""Rules for mmpretrain's losses, by name: mmpretrain is not imported."""

from typing import Any

import torch
from torch import Tensor

from .alone import one_by_one
from .rules import (
    call_arguments,
    refuse_per_sample_loss,
    register_per_sample_loss,
)


@register_per_sample_loss('mmpretrain.CrossEntropyLoss',
                          'mmpretrain.LabelSmoothLoss', 'mmpretrain.FocalLoss',
                          'mmpretrain.AsymmetricLoss')
def classification_loss(module: Any, *args: Any, **kwargs: Any) -> Tensor:
    """Losses whose forward takes ``reduction_override`` and ``avg_factor``.

    With ``avg_factor`` = N, as heads pass it, a sample's loss is the sum over
    its classes; without, their mean.
    """
    arguments = call_arguments(module, args, kwargs)
    avg_factor = arguments.pop('avg_factor', None)
    reduction = arguments.pop('reduction_override', None)
    reduction = reduction or getattr(module, 'reduction', 'mean')
    losses: Tensor = module.forward(
        **arguments, reduction_override='none')
    num_samples = len(losses)
    losses = losses.reshape(num_samples, -1)
    if reduction == 'mean' and avg_factor is not None:
        if avg_factor != num_samples:
            raise ValueError(f'its avg_factor is {avg_factor} for '
                             f'{num_samples} samples')
        return losses.sum(1)
    return losses.sum(1) if reduction == 'sum' else losses.mean(1)


refuse_per_sample_loss('it counts the samples of each class at every call',
                       'mmpretrain.SeesawLoss')
# MoCoV3Head's cross entropy has the samples of the batch as its classes.
refuse_per_sample_loss('it compares the samples of the batch with each other',
                       'mmpretrain.CrossCorrelationLoss',
                       'mmpretrain.SwAVLoss', 'mmpretrain.MoCoV3Head',
                       'mmpretrain.SimCLR')


def ones_of_mask(module: Any, mask: Tensor | None) -> Tensor | None:
    """What each sample's mask adds to the sum by which a loss is divided."""
    return None if mask is None else mask.reshape(len(mask), -1).sum(1)


@register_per_sample_loss('mmpretrain.CosineSimilarityLoss',
                          'mmpretrain.PixelReconstructionLoss',
                          labels=('mask', ), counts=ones_of_mask)
def masked_loss(module: Any, *args: Any, **kwargs: Any) -> Tensor:
    """With a mask the losses are divided by its sum over the batch."""
    arguments = call_arguments(module, args, kwargs)
    mask, num = arguments.get('mask'), len(arguments['pred'])
    if mask is None:
        return one_by_one(module, args, kwargs, num)
    ones = mask.reshape(num, -1).sum(1)
    # A sample without a one is 0/0 alone.
    empty = (ones == 0).reshape(num, *[1] * (mask.ndim - 1))
    arguments['mask'] = torch.where(empty, 1, mask)
    losses: Tensor = one_by_one(module, (), arguments, num) * ones
    return losses
