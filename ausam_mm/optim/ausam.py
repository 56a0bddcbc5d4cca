"""AUSAM: SAM on the samples that matter."""

import math
import weakref
from typing import Any, Dict, Optional, Sequence, Union

import torch
from mmengine.dist import get_rank, get_world_size
from mmengine.logging import print_log
from mmengine.registry import OPTIM_WRAPPERS
from torch import Tensor

from ..checks import is_number, require
from ..sampling import (
    DRAWER,
    AUSAMBatchSampler,
    Draw,
    SampleHistory,
    batch_size,
    counts_epochs,
    draw_multinomial,
    draw_of,
    draw_systematic,
    gather_observations,
    inclusion_probabilities,
    num_drawn,
    sample_keys,
    selection_probabilities,
    tickets_of,
)
from .decisions import Step
from .randomness import checked_seed, step_generator
from .two_pass import TwoPassOptimWrapper


@OPTIM_WRAPPERS.register_module()
class AUSAM(TwoPassOptimWrapper):
    """SAM whose passes see only a drawn part of each batch.

    Deng et al., "Asymptotic Unbiased Sample Sampling to Speed Up
    Sharpness-Aware Minimization", AAAI 2025 (arXiv 2406.08001).

    1. Warm-up: S = B. Afterwards k = max(1, int(alpha * b)) samples are drawn
       without replacement with probability proportional to
       q_i = s_min + (s_max(t) - s_min) * (a_i - min a) / (max a - min a),
       a_i the ADLP of sample i; a sample never used counts as the highest.
       s_max(t) rises linearly from s_min to s_max over the ramp.
    2. First pass on S: losses l_i(w), eps = rho * g / ||g||.
    3. Second pass on S: losses l_i(w + eps); step with its gradient at w.
    4. DLP_i = \\|l_i(w + eps) - l_i(w)\\|; ADLP_i is its running mean.

    Cost: 2 * alpha times the plain step, or the sum of the two ratios.

    Args:
        optimizer (Optimizer): The optimizer that steps.
        rho (float): Radius of the climb. Defaults to 0.1.
        alpha (float | tuple[float, float]): Share of the batch that both
            passes see, or the pair (climb, descend): the first pass sees the
            first share, the second pass the second, which contains it.
            Defaults to 0.5.
        s_min (float): Lowest relative probability. Defaults to 0.1.
        s_max (float): Highest relative probability. Defaults to 0.5.
        warmup_epochs (int): Epochs in which everything is used, so that every
            sample gets a score. Defaults to 1.
        ramp_epochs (int): Epochs over which s_max(t) rises; the published 30
            are of 200. Defaults to 30.
        warmup_iters (int, optional): The warm-up in iterations instead.
            Defaults to None.
        ramp_iters (int, optional): The ramp in iterations instead. Defaults
            to None.
        sampling (str): 'multinomial', the paper's, or 'systematic', whose
            inclusion probabilities are exact. Defaults to 'multinomial'.
        weighting (str): 'none', the paper's, or 'inverse_probability', which
            weights each loss with 1 / (b * pi_i) so that the sampled gradient
            is unbiased at every step; it needs sampling='systematic'.
            Defaults to 'none'.
        scores (str): 'adlp', or one of two controls: 'uniform', a random
            subset, and 'loss', the samples with the highest losses, as far as
            they are known from the last time each was used. Defaults to
            'adlp'.
        seed (int, optional): Seed of the draws. Defaults to None, for
            PyTorch's current seed.
        **kwargs: See :class:`TwoPassOptimWrapper`: adaptive, eta, match_rng,
            sync_perturbation, base, accumulative_counts, clip_grad.

    Note:
        In iteration-based loops, where MMEngine counts no epochs, an epoch is
        as many samples as there are known ones; ``warmup_iters`` and
        ``ramp_iters`` say it exactly.

    Example:
        >>> optim_wrapper = dict(
        ...     type='AUSAM', rho=0.1, alpha=0.5,
        ...     optimizer=dict(type='SGD', lr=0.1, momentum=0.9))
    """

    needs_losses = True

    def __init__(self,
                 optimizer,
                 rho: float = 0.1,
                 alpha: Union[float, Sequence[float]] = 0.5,
                 s_min: float = 0.1,
                 s_max: float = 0.5,
                 warmup_epochs: int = 1,
                 ramp_epochs: int = 30,
                 warmup_iters: Optional[int] = None,
                 ramp_iters: Optional[int] = None,
                 sampling: str = 'multinomial',
                 weighting: str = 'none',
                 scores: str = 'adlp',
                 seed: Optional[int] = None,
                 **kwargs) -> None:
        super().__init__(optimizer, rho=rho, **kwargs)
        self.alpha = _ratios(alpha)
        if not (is_number(s_min) and is_number(s_max)
                and 0 < s_min <= s_max <= 1):
            raise ValueError(
                f's_min={s_min!r} and s_max={s_max!r} must be probabilities '
                'with 0 < s_min <= s_max <= 1: the published ones are 0.1 and '
                '0.5.')
        for name, value in dict(
                warmup_epochs=warmup_epochs,
                ramp_epochs=ramp_epochs,
                warmup_iters=warmup_iters,
                ramp_iters=ramp_iters).items():
            if value is not None and (not is_number(value) or value < 0):
                raise ValueError(f'{name}={value!r} must not be negative: set '
                                 '0 to do without.')
        for name, value, choices in (
            ('sampling', sampling, ('multinomial', 'systematic')),
            ('weighting', weighting, ('none', 'inverse_probability')),
            ('scores', scores, ('adlp', 'uniform', 'loss'))):
            if value not in choices:
                raise ValueError(f'{name}={value!r} is unknown: set one of '
                                 f'{", ".join(map(repr, choices))}.')
        if weighting == 'inverse_probability' and sampling != 'systematic':
            raise ValueError(
                "weighting='inverse_probability' needs inclusion "
                "probabilities, which only sampling='systematic' has: set it, "
                "too.")
        if scores == 'loss' and sampling != 'multinomial':
            raise ValueError(
                "scores='loss' takes the highest losses and draws nothing: "
                'leave sampling and weighting out.')
        self.s_min, self.s_max = s_min, s_max
        self.warmup_epochs, self.ramp_epochs = warmup_epochs, ramp_epochs
        self.warmup_iters, self.ramp_iters = warmup_iters, ramp_iters
        self.sampling, self.weighting, self.scores = (sampling, weighting,
                                                      scores)
        self.history = SampleHistory()
        self.seed = checked_seed(seed)
        self.batch_sampler: Optional[AUSAMBatchSampler] = None
        self._batch_sampler_state: Optional[dict] = None
        self._tickets: Optional[list] = None
        self._keys: Optional[Tensor] = None
        self._mean_dlp = float('nan')
        # A batch sampler finds it there, whichever of them is built first.
        self.message_hub.runtime_info[DRAWER] = weakref.ref(self)

    def draw(self, data: Any) -> Draw:
        """Step 1 of the algorithm (see the class), unless the loader did it.

        Args:
            data (dict | tuple | list): What the data loader returned.

        Returns:
            Draw: The samples that the passes see.

        Raises:
            ValueError: If an AUSAMBatchSampler drew the batch, but its
                samples do not say so.
        """
        self._keys = None if self.scores == 'uniform' else sample_keys(data)
        if self.batch_sampler is None:
            return self.choose(batch_size(data), self._keys, self.num_steps)
        self._tickets = tickets_of(data)
        require(
            self._tickets is not None,
            'AUSAMBatchSampler has drawn this batch, but its data samples do '
            'not say so, and AUSAM would draw from it once more: keep their '
            'meta information in collate_fn, or leave train_dataloader.'
            'batch_sampler out.')
        self.batch_sampler.arrive(self._tickets[0])
        return draw_of(self._tickets)

    def choose(self, size: int, keys: Optional[Tensor], number: int) -> Draw:
        """Draws from a batch (see the class, step 1).

        Args:
            size (int): The number of its samples b.
            keys (Tensor, optional): Their keys, shape (b, ), int64.
            number (int): The number of the batch in the training.

        Returns:
            Draw: The samples that the passes see.
        """
        # Until a whole batch has shown the loss's law, its scale on a part of
        # a batch is unknown.
        laws_known = self._losses.laws_known if self._losses else self._laws
        if self.in_warmup(number) or not laws_known:
            return Draw.everything(size)
        climb, descend = (num_drawn(ratio, size) for ratio in self.alpha)
        if climb == size:
            return Draw.everything(size)

        # Of this step and process, and the same after a resume.
        generator = step_generator(self.seed, get_rank(), number)
        if self.scores == 'loss':
            highest = self.history.means(keys).nan_to_num(
                nan=float('inf')).argsort(descending=True, stable=True)
            s2 = highest[:descend].sort().values
            s1 = highest[:climb].sort().values
            return Draw(size, s2, torch.searchsorted(s2, s1))
        if self.scores == 'uniform':
            q = torch.ones(size, dtype=torch.float64)
        else:
            q = selection_probabilities(
                self.history.means(keys), self.s_min,
                self.current_s_max(number))
        effective = float(q.sum()**2 / (q**2).sum())
        if self.sampling == 'multinomial':
            drawn = draw_multinomial(q, descend, generator)
            s2, s1 = drawn.sort().values, drawn[:climb].sort().values
            return Draw(size, s2, torch.searchsorted(s2, s1),
                        effective_size=effective)
        pi2 = inclusion_probabilities(q, descend)
        s2 = draw_systematic(pi2, generator)
        # Given S2, S1 is drawn from it in the same way.
        pi1 = inclusion_probabilities(q[s2], climb)
        s1 = draw_systematic(pi1, generator) if climb < descend \
            else torch.arange(descend)
        weights2 = weights1 = None
        if self.weighting == 'inverse_probability':
            weights2 = 1 / (size * pi2[s2])
            weights1 = (weights2 / pi1)[s1]
        return Draw(size, s2, s1, weights2, weights1, effective)

    def observe(self, step: Step) -> None:
        """Step 4 of the algorithm: DLP and ADLP of the samples in S1.

        Args:
            step (Step): The finished step.
        """
        before, after = step.first.losses, step.second.losses
        dlp = (after[step.draw.climb.to(after.device)] - before).abs()
        # Where the first pass overflowed, w + eps is w, and DLP unknown.
        dlp = (dlp + 0 * step.norm).double().cpu()
        self._mean_dlp = float(dlp.mean())
        values = (before if self.scores == 'loss' else dlp).double().cpu()
        climb = step.draw.descend[step.draw.climb]
        if self._keys is None:  # no sample is known again
            climb, values = climb[:0], values[:0]
        used = climb if self._keys is None else self._keys[climb]
        if self.batch_sampler is not None:
            origins = torch.tensor([ticket.origin for ticket in self._tickets])
            used, values, origins = gather_observations(
                used, values, origins[climb])
            self.batch_sampler.learn(origins, used)
        elif self._keys is not None:
            used, values = gather_observations(used, values)
        if self.scores == 'loss':
            # The last loss, not a mean over those of an untrained model.
            self.history.replace(used, values)
        else:
            self.history.update(used, values)

    def connect(self, batch_sampler: AUSAMBatchSampler) -> None:
        """Leaves the draws to a batch sampler, which asks for them.

        Args:
            batch_sampler (AUSAMBatchSampler): That of the training's loader.

        Raises:
            ValueError: If there is another already.
        """
        if self.batch_sampler is batch_sampler:
            return
        require(
            self.batch_sampler is None,
            'Two data loaders have an AUSAMBatchSampler, which is for '
            'training only: leave it in train_dataloader alone.')
        self.batch_sampler = batch_sampler
        if self._batch_sampler_state is not None:
            batch_sampler.load_state_dict(self._batch_sampler_state)
        print_log(
            'AUSAMBatchSampler draws the samples of a batch before they are '
            f'loaded: {type(self).__name__} uses all that arrive.',
            logger='current')

    def in_warmup(self, number: int) -> bool:
        """Whether a batch is used whole to give its samples scores.

        Args:
            number (int): The number of the batch in the training.
        """
        if self.warmup_iters is not None:
            return number < self.warmup_iters
        return self.epoch() < self.warmup_epochs

    def current_s_max(self, number: int) -> float:
        """s_max(t): linear from s_min to s_max over the ramp.

        Args:
            number (int): The number of the batch in the training.
        """
        if self.ramp_iters is not None:
            done, length = number, self.ramp_iters
        else:
            done, length = self.epoch(), self.ramp_epochs
        share = min(1., done / length) if length else 1.
        return self.s_min + (self.s_max - self.s_min) * share

    def epoch(self) -> int:
        """The current epoch, from 0.

        Raises:
            ValueError: If nothing tells where an epoch ends.
        """
        if counts_epochs(self.message_hub):
            return self.message_hub.get_info('epoch')
        if self.warmup_epochs == 0 and self.ramp_epochs == 0:
            return 0
        if self.scores == 'uniform':
            raise ValueError(
                "With scores='uniform' no sample is recognised, so that in an "
                'iteration-based loop an epoch has no end: set warmup_iters '
                'and ramp_iters.')
        if not len(self.history):
            return 0
        # In the first epoch every loaded sample is a new one; the tolerance
        # is for samples that sampler padding loads twice.
        passes = self.samples_offered * get_world_size() / len(self.history)
        return max(0, math.ceil(passes - 0.05) - 1)

    def scalars(self, step: Step) -> Dict[str, float]:
        """Mean DLP and effective sample size; see the base class."""
        effective = step.draw.effective_size
        return dict(
            mean_dlp=self._mean_dlp,
            effective_sample_size=step.draw.size
            if effective is None else effective)

    def method_state(self) -> dict:
        """The base class's state with the table and what the draws need."""
        state = dict(
            super().method_state(),
            history=self.history.state_dict(),
            seed=self.seed)
        if self.batch_sampler is not None:
            state['batch_sampler'] = self.batch_sampler.state_dict()
        return state

    def load_method_state(self, state: dict) -> None:
        """Takes up a state; another method's has no table, which is kept."""
        super().load_method_state(state)
        if 'history' in state:
            self.history.load_state_dict(state['history'])
            self.seed = state['seed']
        self._batch_sampler_state = state.get('batch_sampler')


def _ratios(alpha: Any) -> tuple:
    """alpha as the pair (climb, descend)."""
    pair = (alpha, alpha) if is_number(alpha) else alpha
    try:
        climb, descend = pair
        valid = 0 < climb <= descend <= 1
    except (TypeError, ValueError):
        valid = False
    if not valid:
        raise ValueError(
            f'alpha={alpha!r} must be a ratio in (0, 1], or a pair (climb, '
            'descend) of them with climb <= descend, for example 0.5 or '
            '(0.25, 0.75).')
    return float(climb), float(descend)
