"""AUSAM: SAM on the samples that matter."""

import logging
import math
import weakref
from collections.abc import Sequence
from typing import Any

import torch
from mmengine.dist import get_rank, get_world_size
from mmengine.logging import print_log
from mmengine.registry import OPTIM_WRAPPERS
from torch import Tensor
from torch.optim import Optimizer

from ..checks import is_number, require, require_choice
from ..engine import Step, TwoPassOptimWrapper, step_generator
from ..engine.randomness import checked_seed
from ..sampling import (
    NO_SAMPLES,
    SELECTOR,
    WAITING,
    AUSAMBatchSampler,
    SampleHistory,
    Selection,
    batch_size,
    counts_epochs,
    gather_observations,
    identities,
    keys_of,
    num_selected,
    select_highest,
    select_multinomial,
    select_systematic,
    selection_probabilities,
    shared_index,
)


@OPTIM_WRAPPERS.register_module()
class AUSAM(TwoPassOptimWrapper):
    """SAM whose passes see only a sampled part of each batch.

    Deng et al., "Asymptotic Unbiased Sample Sampling to Speed Up
    Sharpness-Aware Minimization", AAAI 2025 (arXiv 2406.08001).

    1. Warm-up: S = B. Afterwards k = max(1, int(alpha * b)) samples are taken
       without replacement with probability proportional to
       q_i = s_min + (s_max(t) - s_min) * (a_i - min a) / (max a - min a),
       a_i the ADLP of sample i; a sample never used counts as the highest.
       s_max(t) rises linearly from s_min to s_max over the ramp.
    2. First pass on S: losses l_i(w), eps = rho * g / ||g||.
    3. Second pass on S: losses l_i(w + eps); step with its gradient at w.
    4. DLP_i = |l_i(w + eps) - l_i(w)|; ADLP_i is its running mean.

    Cost: 2 * alpha SGD steps, or the sum of the two ratios.

    Args:
        optimizer (Optimizer): The optimizer that steps.
        rho (float): Radius of the perturbation. Defaults to 0.1.
        alpha (float | tuple[float, float]): Ratio of the batch that both
            passes see, or the pair (ascent, descent): the first pass sees the
            first ratio, the second pass the second, which contains it.
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
        max_samples (int, optional): The most samples whose scores are kept,
            at up to 80 bytes of memory each; the oldest go first. For
            streams, whose samples do not come again. Defaults to None, for
            all samples.
        seed (int, optional): Seed of the sampling. Defaults to None, for
            PyTorch's current seed.
        **kwargs: Shared options, see :class:`TwoPassOptimWrapper`.

    Note:
        In iteration-based loops, where MMEngine counts no epochs, an epoch is
        as many samples as there are known ones; ``warmup_iters`` and
        ``ramp_iters`` say it exactly.

        A sample whose loss is not finite counts as the lowest until it is
        used with a finite one.

    Example:
        >>> optim_wrapper = dict(
        ...     type='AUSAM', rho=0.1, alpha=0.5,
        ...     optimizer=dict(type='SGD', lr=0.1, momentum=0.9))
    """

    needs_losses = True
    saved = ('samples_seen', 'samples_repeat')

    def __init__(self,
                 optimizer: Optimizer,
                 rho: float = 0.1,
                 alpha: float | Sequence[float] = 0.5,
                 s_min: float = 0.1,
                 s_max: float = 0.5,
                 warmup_epochs: int = 1,
                 ramp_epochs: int = 30,
                 warmup_iters: int | None = None,
                 ramp_iters: int | None = None,
                 sampling: str = 'multinomial',
                 weighting: str = 'none',
                 scores: str = 'adlp',
                 max_samples: int | None = None,
                 seed: int | None = None,
                 **kwargs: Any) -> None:
        super().__init__(optimizer, rho=rho, **kwargs)
        self.alpha = _ratios(alpha)
        require(
            is_number(s_min) and is_number(s_max) and 0 < s_min <= s_max <= 1,
            f's_min={s_min!r} and s_max={s_max!r} must be probabilities with '
            '0 < s_min <= s_max <= 1: the published ones are 0.1 and 0.5.')
        for name, value in dict(
                warmup_epochs=warmup_epochs, ramp_epochs=ramp_epochs,
                warmup_iters=warmup_iters, ramp_iters=ramp_iters).items():
            require(
                value is None or is_number(value) and value >= 0,
                f'{name}={value!r} must not be negative: set 0 to do without.')
        require_choice('sampling', sampling, 'multinomial', 'systematic')
        require_choice('weighting', weighting, 'none', 'inverse_probability')
        require_choice('scores', scores, 'adlp', 'uniform', 'loss')
        require(
            weighting == 'none' or sampling == 'systematic',
            "weighting='inverse_probability' needs inclusion probabilities, "
            "which only sampling='systematic' has: set it, too.")
        require(
            scores != 'loss' or sampling == 'multinomial',
            "scores='loss' takes the highest losses and samples nothing: "
            'leave sampling and weighting out.')
        self.s_min, self.s_max = s_min, s_max
        self.warmup_epochs, self.ramp_epochs = warmup_epochs, ramp_epochs
        self.warmup_iters, self.ramp_iters = warmup_iters, ramp_iters
        self.sampling, self.weighting, self.scores = (sampling, weighting,
                                                      scores)
        self.history = SampleHistory(max_samples)
        self.samples_seen = 0  # of all processes' batches
        self.samples_repeat = False
        self._warned: set[str] = set()
        self.seed = checked_seed(seed)
        self.batch_sampler: AUSAMBatchSampler | None = None
        self._first_epoch: int | None = None  # since the last start
        self._unverified = 0  # full batches after the warm-up
        self._batch_sampler_state: dict[str, Any] | None = None
        # A batch sampler finds it there, whichever of them is built first.
        self.message_hub.runtime_info[SELECTOR] = weakref.ref(self)

    def select(self, data: Any) -> Selection:
        """Step 1 of the algorithm (see the class), unless the loader did it.

        Returns:
            Selection: The samples that the passes see.

        Raises:
            ValueError: If nothing tells which training samples they are, or
                what an AUSAMBatchSampler selected has not come.
        """
        waiting = self.message_hub.runtime_info.pop(WAITING, lambda: None)()
        if waiting is not None:
            self.connect(waiting)
        if self.batch_sampler is None:
            size = batch_size(data)
            keys = self._keys(data, size)
            selection = self.select_from(size, keys, self.num_steps)
        else:
            selection = self.batch_sampler.arrived(data)
            keys = self._keys(data, selection.loaded, selection.origins)
        selection.keys = keys
        return selection

    def _keys(self, data: Any, size: int,
              numbers: Tensor | None = None) -> Tensor:
        """The keys of a batch's samples, which may have numbers besides."""
        if self.scores == 'uniform':  # no sample is recognized
            return NO_SAMPLES
        found = identities(data)
        require(
            len(found) in (0, size),
            f'The batch has {size} samples, of which {len(found)} say which '
            'training sample they are: make the collate_fn of '
            'train_dataloader return an identity for each.')
        if self.batch_sampler is not None:
            return keys_of(found, numbers,
                           self.batch_sampler.origins.restarts_index)
        keys = keys_of(found)
        if (index := shared_index(data, found)) is not None:
            self._warn_once(
                'shared index',
                f'Two samples of a batch have sample_idx={index}, but other '
                'labels, so that they share one score. If they are different '
                'training samples, as in a ConcatDataset, set '
                "train_dataloader.batch_sampler=dict(type='AUSAMBatchSampler')"
                ', which tells them apart, or return img_path, too.')
        return keys

    def select_from(self, size: int, keys: Tensor,
                    number: int) -> Selection:
        """Step 1 of the algorithm (see the class).

        Args:
            size (int): The number of the batch's samples b.
            keys (Tensor): Their keys, shape (b, ), int64.
            number (int): The number of the batch in the training.

        Returns:
            Selection: The samples that the passes see.
        """
        ascent, descent = (num_selected(ratio, size, self.least_samples)
                           for ratio in self.alpha)
        # Until full batches have shown how the loss is made of the samples',
        # its scale on a sub-batch is unknown.
        if self.in_warmup(number) or ascent == size:
            return Selection.full_batch(size)
        if not self.losses_verified:
            self._say_unverified()
            return Selection.full_batch(size)
        # Of this step and process, and the same after a resume.
        generator = step_generator(self.seed, get_rank(), number)
        if self.scores == 'loss':
            return select_highest(
                self.history.means(keys), ascent, descent, generator)
        q = torch.ones(size, dtype=torch.float64)
        if self.scores == 'adlp':
            q = selection_probabilities(
                self.history.means(keys), self.s_min,
                self.current_s_max(number))
        if self.sampling == 'multinomial':
            return select_multinomial(q, ascent, descent, generator)
        return select_systematic(q, ascent, descent, self.weighting != 'none',
                                 generator)

    def _say_unverified(self) -> None:
        """Warns where full batches are used for long after the warm-up."""
        self._unverified += 1
        if self._unverified == 100:
            print_log(
                'AUSAM has trained 100 full batches after the warm-up, at '
                "SAM's cost: the losses of their samples are equal, or not "
                'finite, so that they do not show how the loss of a batch is '
                'made of them.', logger='current', level=logging.WARNING)

    def observe(self, step: Step) -> None:
        """Step 4 of the algorithm: DLP and ADLP of the samples in S1."""
        selection = step.selection
        before, after = step.first.losses, step.second.losses
        within = selection.ascent_in_descent.to(after.device)
        # Where the first pass overflowed, w + eps is w, and DLP unknown.
        dlp, losses = torch.stack([
            part.double() for part in
            ((after[within] - before).abs() + 0 * step.norm, before)]).cpu()
        mean = float(dlp.mean())
        if math.isfinite(mean):
            step.scalars['mean_dlp'] = mean
            step.scalars['dlp_over_loss'] = mean / float(
                losses.abs().mean().clamp(min=1e-12))
        step.scalars['effective_sample_size'] = (
            selection.effective_size or selection.size)
        values = losses if self.scores == 'loss' else dlp
        values[~losses.isfinite()] = -math.inf  # it has failed
        seen = selection.ascent
        if self.scores == 'uniform':  # no sample is recognized
            seen, values = seen[:0], values[:0]
        keys, total = selection.keys[seen], selection.size
        if self.batch_sampler is not None:
            total, keys, values, origins = gather_observations(
                keys, values, selection.origins[seen], offered=total)
            self.batch_sampler.learn(origins, keys)
        elif self.scores != 'uniform':
            total, keys, values = gather_observations(
                keys, values, offered=total)
        self.samples_seen += total
        self._learn(keys, values)

    def _learn(self, keys: Tensor, values: Tensor) -> None:
        """Puts the observations of all processes into the table."""
        if self.scores == 'uniform':
            return
        if not self.samples_repeat:
            known = ~self.history.means(keys).isnan()
            self.samples_repeat = bool(known.any())
            if not self.samples_repeat and self._should_repeat():
                self._warn_once(
                    'no repeats',
                    f'No training sample has come twice in {self.num_steps} '
                    'steps: the scores are of no use then, their table grows, '
                    'and in a loop of iterations the warm-up, at the cost of '
                    'SAM, does not end. For a stream of samples set '
                    "warmup_iters, ramp_iters and max_samples, or scores="
                    "'uniform'.")
        if self.scores == 'loss':
            # The last loss, not a mean over those of an untrained model.
            self.history.replace(keys, values)
        else:
            self.history.update(keys, values)

    def plan(self) -> str:
        """The base class's with alpha, warm-up and ramp."""
        ascent, descent = self.alpha
        plan = f'{super().plan()}, alpha=' + (
            f'{ascent:g}' if ascent == descent
            else f'({ascent:g}, {descent:g})')
        if ascent == 1:  # there is nothing to select
            return plan
        plan += f', a warm-up of {_count(*self._warmup())} on full batches'
        if self.scores == 'adlp':
            return (f'{plan}, s_max rising from {self.s_min:g} to '
                    f'{self.s_max:g} over {_count(*self._ramp())}')
        return f'{plan}, scores={self.scores!r}'

    def cautions(self) -> list[str]:
        """A warm-up or ramp that is longer than the training."""
        if self.alpha[0] == 1:
            return []
        name, found = type(self).__name__, []
        length, unit = self._warmup()
        total = self._length_in(unit)
        if length >= total:
            found.append(
                f'warmup_{unit}={length:g} lasts as long as the training of '
                f'{_count(total, unit)}, so that {name} trains on full '
                f'batches as SAM does: set warmup_{unit}=0 or train longer.')
        length, unit = self._ramp()
        total = self._length_in(unit)
        if length > total and self.scores == 'adlp':
            reached = self.s_min + (self.s_max - self.s_min) * (
                total - 1) / length
            found.append(
                f'ramp_{unit}={length:g} is longer than the training of '
                f'{_count(total, unit)}: s_max ends at {reached:.2g} instead '
                f'of {self.s_max:g}. Set ramp_{unit}='
                f'{max(1, round(0.15 * total))}, the published part of a '
                'training (30 of 200 epochs).')
        return found

    def _warmup(self) -> tuple[float, str]:
        if self.warmup_iters is not None:
            return self.warmup_iters, 'iters'
        return self.warmup_epochs, 'epochs'

    def _ramp(self) -> tuple[float, str]:
        if self.ramp_iters is not None:
            return self.ramp_iters, 'iters'
        return self.ramp_epochs, 'epochs'

    def _length_in(self, unit: str) -> float:
        """The length of the training; infinite where nothing tells it."""
        hub = self.message_hub
        if unit == 'epochs' and not counts_epochs(hub):
            return math.inf
        return float(hub.get_info(f'max_{unit}', math.inf))

    def connect(self, batch_sampler: AUSAMBatchSampler) -> None:
        """Leaves the selection to a batch sampler, which asks for it.

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
        batch_sampler.trained = self.num_steps
        if self._batch_sampler_state is not None:
            batch_sampler.load_state_dict(self._batch_sampler_state)
        print_log(
            'AUSAMBatchSampler selects the samples of a batch before they are '
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
        ratio = min(1., done / length) if length else 1.
        return self.s_min + (self.s_max - self.s_min) * ratio

    def epoch(self) -> int:
        """The current epoch, from 0.

        Raises:
            ValueError: If nothing tells where an epoch ends.
        """
        if counts_epochs(self.message_hub):
            return int(self.message_hub.get_info('epoch'))
        if self.warmup_epochs == 0 and self.ramp_epochs == 0:
            return 0
        require(
            self.scores != 'uniform',
            "With scores='uniform' no sample is recognized, so that in an "
            'iteration-based loop an epoch has no end: set warmup_iters and '
            'ramp_iters.')
        if not len(self.history):
            return 0
        # In the first epoch every loaded sample is a new one; the tolerance
        # is for samples that sampler padding loads twice.
        passes = self.samples_seen / len(self.history)
        return max(0, math.ceil(passes - 0.05) - 1)

    def _should_repeat(self) -> bool:
        """Whether a sample should have come for the second time by now."""
        if counts_epochs(self.message_hub):
            # Epochs that another method has trained before do not count.
            if self._first_epoch is None:
                self._first_epoch = self.epoch()
            return self.epoch() > self._first_epoch + 1
        # The published warm-up is a 200th of the training.
        iters = self.message_hub.runtime_info.get('max_iters') or 10_000
        return self.num_steps >= max(100, iters // 10)

    def _warn_once(self, what: str, message: str) -> None:
        if what not in self._warned:
            self._warned.add(what)
            print_log(message, logger='current', level=logging.WARNING)

    def method_state(self) -> dict[str, Any]:
        """The base class's state with the table and what sampling needs."""
        state = dict(
            super().method_state(),
            history=self.history.state_dict(),
            seed=self.seed)
        if self.batch_sampler is not None:
            state['batch_sampler'] = self.batch_sampler.state_dict()
        return state

    def load_method_state(self, state: dict[str, Any]) -> None:
        """Takes up a state; another method's has no table, which is kept."""
        super().load_method_state(state)
        # Older checkpoints, and those of other methods, have no such sum.
        self.samples_seen = state.get(
            'samples_seen', self.samples_offered * get_world_size())
        if 'history' in state:
            self.history.load_state_dict(state['history'])
            self.seed = state['seed']
            self.samples_repeat = state.get('samples_repeat', True)
        self._batch_sampler_state = state.get('batch_sampler')


def _count(number: float, unit: str) -> str:
    """A length in words."""
    word = {'iters': 'iterations'}.get(unit, unit)
    return f'{number:g} {word if number != 1 else word[:-1]}'


def _ratios(alpha: Any) -> tuple[float, float]:
    """alpha as the pair (ascent, descent)."""
    pair = (alpha, alpha) if is_number(alpha) else alpha
    try:
        ascent, descent = pair
        valid = 0 < ascent <= descent <= 1
    except (TypeError, ValueError):
        valid = False
    require(
        valid,
        f'alpha={alpha!r} must be a ratio in (0, 1], or a pair (ascent, '
        'descent) of them with ascent <= descent, for example 0.5 or '
        '(0.25, 0.75).')
    return float(ascent), float(descent)
