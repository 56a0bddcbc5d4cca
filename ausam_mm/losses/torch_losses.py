"""Rules for PyTorch's own losses that divide by a number of the batch."""

from typing import Any

from torch import Tensor, nn

from .rules import (
    refuse_per_sample_loss,
    register_per_sample_loss,
    unreduced,
)


def label_weights(module: Any, target: Tensor) -> Tensor | None:
    """The class weights of each sample's labels, 0 of those ignored.

    Args:
        module (nn.Module): nn.CrossEntropyLoss or nn.NLLLoss.
        target (Tensor): Classes, shape (N, ...), or their probabilities,
            shape (N, C, ...).

    Returns:
        Tensor, optional: Shape (N, ); None where the module does not divide
        by them.
    """
    if module.reduction != 'mean' or target.is_floating_point():
        return None
    kept = target != module.ignore_index
    weights: Tensor = kept.float() if module.weight is None else \
        module.weight[target.where(kept, 0)] * kept
    return weights.reshape(len(target), -1).sum(1)


@register_per_sample_loss(nn.CrossEntropyLoss, nn.NLLLoss,
                          labels=('target', ), counts=label_weights)
def cross_entropy(module: Any, input: Tensor, target: Tensor) -> Tensor:
    """The mean is divided by the weights of all labels."""
    losses = unreduced(module, input, target).reshape(len(target), -1)
    if module.reduction == 'mean' and target.is_floating_point():
        return losses.mean(1)
    return losses.sum(1)


refuse_per_sample_loss('its predictions have the time as their first '
                       'dimension, not the samples', nn.CTCLoss)
