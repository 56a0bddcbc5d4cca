"""Rules for mmpose's losses, by name: mmpose is not imported.

Most of mmpose's losses have no rule: evaluating them on each sample alone is
right for them (see :func:`ausam_mm.losses.per_sample.one_by_one`).
"""

from typing import Any

import torch
from torch import Tensor

from .alone import one_by_one
from .rules import (
    call_arguments,
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


def labeled_joints(module: Any, target_weight: Tensor | None
                   ) -> Tensor | None:
    """How many weights of each sample are not zero, if they divide the loss.

    That is so with ``supervise_empty=False``.
    """
    if target_weight is None or not module.use_target_weight \
            or module.supervise_empty:
        return None
    return (target_weight > 0).reshape(len(target_weight), -1).sum(1).float()


@register_per_sample_loss('mmpose.SoftWeightSmoothL1Loss',
                          labels=('target_weight', ), counts=labeled_joints)
def soft_weight_smooth_l1_loss(module: Any, *args: Any,
                               **kwargs: Any) -> Tensor:
    """It may be divided by the number of labeled joints of the batch."""
    arguments = call_arguments(module, args, kwargs)
    losses = one_by_one(module, args, kwargs, len(arguments['output']))
    joints = labeled_joints(module, arguments.get('target_weight'))
    return losses if joints is None else losses * joints


def peaks(module: Any, target: Tensor, target_weights: Tensor | None,
          mask: Tensor | None) -> Tensor:
    """How many pixels of each sample's heatmaps are a joint."""
    ones = target.eq(1).float()
    valid = module._get_mask(target, target_weights, mask)
    return (ones if valid is None else ones * valid).flatten(1).sum(1)


@register_per_sample_loss('mmpose.FocalHeatmapLoss',
                          labels=('target', 'target_weights', 'mask'),
                          counts=peaks)
def focal_heatmap_loss(module: Any, *args: Any, **kwargs: Any) -> Tensor:
    """It is divided by the number of joints in the batch, if there is any."""
    arguments = call_arguments(module, args, kwargs)
    losses = one_by_one(module, args, kwargs, len(arguments['target']))
    return losses * peaks(
        module, arguments['target'], arguments.get('target_weights'),
        arguments.get('mask')).clamp(min=1)


@register_per_sample_loss('mmpose.MPJPEVelocityJointLoss')
def mpjpe_velocity_joint_loss(module: Any, *args: Any,
                              **kwargs: Any) -> Tensor:
    """The velocity is that of a sequence: of the samples, if there is none."""
    output = call_arguments(module, args, kwargs)['output']
    if output.ndim < 4:
        raise ValueError('it takes the samples of the batch for the frames of '
                         'a sequence')
    return one_by_one(module, args, kwargs, len(output))


refuse_per_sample_loss('it compares averages over the batch',
                       'mmpose.BoneLoss', 'mmpose.SemiSupervisionLoss')
refuse_per_sample_loss('it compares the samples of the batch with each other',
                       'mmpose.InfoNCELoss', 'mmpose.AssociativeEmbeddingLoss')
