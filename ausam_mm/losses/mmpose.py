"""Rules for mmpose's losses, by name: mmpose is not imported.

Most of mmpose's losses have no rule: evaluating them on each sample alone is
right for them (see :func:`ausam_mm.losses.per_sample.one_by_one`).
"""

from typing import Any

import torch
from torch import Tensor

from .per_sample import (
    call_arguments,
    one_by_one,
    refuse_per_sample_loss,
    register_per_sample_loss,
    unreduced,
)


@register_per_sample_loss('mmpose.KLDiscretLoss')
def kl_discret_loss(module: Any, pred_simcc: tuple[Tensor, Tensor],
                    gt_simcc: tuple[Tensor, Tensor],
                    target_weight: Tensor) -> Tensor:
    """SimCC and RTMPose: the KL divergence of each joint's two axes.

    The batch loss is the SUM over the batch, divided by the joints.
    """
    num_samples, num_joints = pred_simcc[0].shape[:2]
    losses: Any = sum(
        module.criterion(pred.flatten(0, 1), target.flatten(0, 1))
        for pred, target in zip(pred_simcc, gt_simcc))
    if module.use_target_weight:
        losses = losses * target_weight.reshape(-1)
    losses = losses.reshape(num_samples, num_joints)
    if module.mask is not None:
        joint_weight = torch.ones_like(losses[0])
        joint_weight[module.mask] = module.mask_weight
        losses = losses * joint_weight
    per_sample: Tensor = losses.sum(1) / num_joints
    return per_sample


@register_per_sample_loss('mmpose.VariFocalLoss')
def vari_focal_loss(module: Any, *args: Any, **kwargs: Any) -> Tensor:
    """Its masked assignments cannot be mapped over the samples."""
    losses = unreduced(module, *args, **kwargs).flatten(1)
    return losses.sum(1) if module.reduction == 'sum' else losses.mean(1)


@register_per_sample_loss('mmpose.SoftWeightSmoothL1Loss')
def soft_weight_smooth_l1_loss(module: Any, *args: Any,
                               **kwargs: Any) -> Tensor:
    """Refused where it divides by the batch's count of labelled joints."""
    if module.use_target_weight and not module.supervise_empty:
        raise ValueError('with supervise_empty=False it divides by the number '
                         'of labelled joints of the batch')
    output = call_arguments(module, args, kwargs)['output']
    return one_by_one(module, args, kwargs, len(output))


refuse_per_sample_loss('it divides by the number of joints in the batch',
                       'mmpose.FocalHeatmapLoss')
refuse_per_sample_loss('it compares averages over the batch',
                       'mmpose.BoneLoss', 'mmpose.SemiSupervisionLoss')
refuse_per_sample_loss('it compares the samples of the batch with each other',
                       'mmpose.MPJPEVelocityJointLoss', 'mmpose.InfoNCELoss',
                       'mmpose.AssociativeEmbeddingLoss')
