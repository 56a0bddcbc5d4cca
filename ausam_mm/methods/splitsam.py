"""SplitSAM: each half of the batch does one pass, and none is left out."""

import logging
from typing import Any

import torch
from mmengine.dist import get_rank
from mmengine.logging import print_log
from mmengine.registry import OPTIM_WRAPPERS
from torch.optim import Optimizer

from ..checks import is_number, require, require_choice
from ..engine import (
    Step,
    TwoPassOptimWrapper,
    common_seed,
    gradients,
    step_generator,
    vector_norm,
)
from ..engine.distributed import is_fsdp
from ..sampling import Selection, batch_size, num_selected


@OPTIM_WRAPPERS.register_module()
class SplitSAM(TwoPassOptimWrapper):
    """SAM whose passes see two parts of the batch; both gradients count.

    A variant by this project of SAM, which sees the same samples twice:
    Foret et al., "Sharpness-Aware Minimization for Efficiently Improving
    Generalization", ICLR 2021 (arXiv 2010.01412).

    1. The batch B is split at random into B1, of the size ratio * b, and B2.
    2. First pass on B1: g1 at w, eps = rho * g1 / ||g1||.
    3. Second pass on B2: g2 at w + eps.
    4. Step with ``(|B1| * g1 + |B2| * g2) / b`` at w.

    Cost: 1 SGD step; no sample is left out, and none is used twice.

    Args:
        optimizer (Optimizer): The optimizer that steps.
        rho (float): Radius of the perturbation. Defaults to 0.05.
        ratio (float): Ratio of the batch that the first pass sees. Defaults
            to 0.5.
        weighting (str): 'size', which weights the two gradients with the
            sizes of their parts, or 'second', a control: g1 is used for the
            perturbation only, and the step is with g2. Defaults to 'size'.
        direction (str): 'gradient', or 'random', a control: eps is a random
            direction of the same length, and g1 counts only in the step.
            Defaults to 'gradient'.
        reduction (str, optional): What the model makes of the losses of a
            batch, 'mean' or 'sum'. Defaults to None, which finds it out for
            each loss and needs losses that are separable. The others work for
            every model; for a loss that is not separable set 'mean'.
        seed (int, optional): Seed of the splits and of the random directions.
            Defaults to None, for PyTorch's current seed.
        **kwargs: Shared options, see :class:`TwoPassOptimWrapper`.

    Note:
        BatchNorm's statistics move in both passes, so that each sample counts
        once, as in two micro-batches. What else a forward pass changes, such
        as queues and teachers, moves with the first pass only.

        All micro-batches and processes split alike, by position in the batch.
        Random directions differ between them; with ``sync_perturbation``
        processes have the same. A batch that is too small for two parts is a
        step of SAM.

        The logged loss is that of B1.

    Example:
        >>> optim_wrapper = dict(
        ...     type='SplitSAM', rho=0.05, ratio=0.5,
        ...     optimizer=dict(type='SGD', lr=0.1, momentum=0.9))
    """

    saved = ('seed', )

    def __init__(self, optimizer: Optimizer, rho: float = 0.05,
                 ratio: float = 0.5, weighting: str = 'size',
                 direction: str = 'gradient', reduction: str | None = None,
                 seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(optimizer, rho=rho, **kwargs)
        require(
            is_number(ratio) and 0 < ratio < 1,
            f'ratio={ratio!r} leaves one of the two parts empty: set it '
            'between 0 and 1, for example 0.5.')
        require_choice('weighting', weighting, 'size', 'second')
        require_choice('direction', direction, 'gradient', 'random')
        require_choice('reduction', reduction, None, 'mean', 'sum')
        self.ratio = ratio
        self.weighting = weighting
        self.direction = direction
        self.reduction = reduction
        # They tell the reduction, and keep the scale of sums on a part.
        self.needs_losses = reduction is None
        self.seed = common_seed(seed)
        self._warned = False

    def select(self, data: Any) -> Selection:
        """Step 1 of the algorithm (see the class)."""
        size, least = batch_size(data), self.least_samples
        if size < 2 * least:
            self._warn_small(size)
            return Selection.full_batch(size)
        first = min(num_selected(self.ratio, size, least), size - least)
        order = torch.randperm(
            size, generator=step_generator(self.seed, self.num_updates))
        return Selection(size, descent=order[first:].sort().values,
                         ascent=order[:first].sort().values, disjoint=True)

    def _warn_small(self, size: int) -> None:
        if not self._warned:
            self._warned = True
            print_log(
                f'SplitSAM cannot split a batch of {size}, and runs a step of '
                'SAM on it, which costs two: set a larger batch_size, or '
                'drop_last=True if it is the last of an epoch.',
                logger='current', level=logging.WARNING)

    def gradient_weights(self, step: Step) -> tuple[float, float]:
        """The weights of step 4 of the algorithm (see the class)."""
        selection = step.selection
        if not selection.disjoint:
            return super().gradient_weights(step)
        sizes = len(selection.ascent), len(selection.descent)
        # Of a sum each part has its part already; where the samples' losses
        # are watched, it is scaled to the full batch.
        is_sum = self.reduction == 'sum' and not self.watching
        if self.weighting == 'second':
            return 0., selection.size / sizes[1] if is_sum else 1.
        if is_sum:
            return 1., 1.
        return sizes[0] / selection.size, sizes[1] / selection.size

    @torch.no_grad()
    def set_ascent_direction(self, step: Step) -> None:
        """Replaces g1 by a random vector of its length, if that is wanted."""
        if self.direction == 'gradient':
            return
        grads = gradients(step.params)
        length = vector_norm(grads, step.group)
        # Alike in all processes, or of each its own, as under FSDP the parts
        # of a vector must be.
        alike = self.sync_perturbation and not is_fsdp(step.model)
        seed = step_generator(self.seed, 0 if alike else 1 + get_rank(),
                              self.num_steps).initial_seed()
        generators = {device: torch.Generator(device).manual_seed(seed)
                      for device in {grad.device for grad in grads}}
        for grad in grads:
            grad.normal_(generator=generators[grad.device])
        scale = length / vector_norm(grads, step.group)
        for grad in grads:
            grad.mul_(scale.to(grad))

    def observe(self, step: Step) -> None:
        """Logs that all samples were used."""
        if step.selection.disjoint:
            step.scalars['ratio_used'] = 1.

    def plan(self) -> str:
        """The base class's with the ratio."""
        return f'{super().plan()}, ratio={self.ratio:g}'
