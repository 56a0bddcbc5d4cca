"""Rules for mmpretrain's losses, by name: mmpretrain is not imported."""

from typing import Any

from torch import Tensor

from .per_sample import (
    call_arguments,
    one_by_one,
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
                       'mmpretrain.SwAVLoss', 'mmpretrain.MoCoV3Head')


@register_per_sample_loss('mmpretrain.CosineSimilarityLoss',
                          'mmpretrain.PixelReconstructionLoss')
def masked_loss(module: Any, *args: Any, **kwargs: Any) -> Tensor:
    """Refused with a mask: they are divided by its sum over the batch."""
    arguments = call_arguments(module, args, kwargs)
    if arguments.get('mask') is not None:
        raise ValueError('it divides by the sum of the mask of the batch')
    return one_by_one(module, args, kwargs, len(arguments['pred']))
