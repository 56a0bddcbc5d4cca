"""AUSAM: SAM on the samples that matter."""

import logging
import math
import weakref
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from mmengine.dist import get_rank, get_world_size
from mmengine.logging import print_log
from mmengine.registry import OPTIM_WRAPPERS
from torch import Tensor
from torch.optim import Optimizer

from ..checks import require, require_choice
from ..engine import Step, TwoPassOptimWrapper, step_generator
from ..engine.distributed import is_fsdp
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
    favoring_low,
    gather_observations,
    identities,
    keys_of,
    num_selected,
    ratio_pair,
    select_highest,
    select_multinomial,
    select_systematic,
    selection_probabilities,
    shared_index,
)
from .ausam_schedule import Schedule


@OPTIM_WRAPPERS.register_module()
class AUSAM(TwoPassOptimWrapper):
    """SAM whose passes see only a sampled part of each batch.

    Deng et al., "Asymptotic Unbiased Sample Sampling to Speed Up
    Sharpness-Aware Minimization", AAAI 2025 (arXiv 2406.08001).

    1. Warm-up: S = B. Afterwards k = max(1, int(alpha * b)) samples are taken
       without replacement with probability proportional to
       q_i = s_min + (s_max(t) - s_min) * (a_i - min a) / (max a - min a),
       a_i the ADLP of sample i; a sample never used has the highest q_i.
       s_max(t) rises linearly from s_min to s_max over the ramp.
    2. First pass on S: losses l_i(w), eps = rho * g / ||g||.
    3. Second pass on S: losses l_i(w + eps); step with its gradient at w.
    4. ``DLP_i = |l_i(w + eps) - l_i(w)|``; ADLP_i is its running mean.

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
        scores (str): 'adlp', or a control: 'uniform', a random subset;
            'loss', the samples with the highest losses, as far as they are
            known from the last time each was used; 'gradient_norm', what ADLP
            stands in for, as a_i the norm of the gradient of l_i at w.
            Defaults to 'adlp'.
        favor (str): 'high', or 'low', which turns the scores around: the
            lowest a_i has the highest probability, and 'loss' takes the
            lowest. Samples never used still come first, and those that
            failed last. Defaults to 'high'.
        decay (float): What the weight of a DLP in its sample's ADLP is
            multiplied with each time the sample is used again, in (0, 1]:
            with 0.9 the last ten have two thirds of the weight. Defaults to
            1., for the paper's plain mean.
        keep_losses (str, optional): 'last' or 'mean': what is kept of each
            sample's losses in the first passes, beside its ADLP, at as many
            bytes. It changes nothing in the training: tools/analyze.py
            suspects ranks by it. It needs scores='adlp'. Defaults to None.
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

        A sample whose loss is not finite has the lowest probability until it
        is used with a finite one.

        ``scores='gradient_norm'`` is an oracle for studies. After the warm-up
        each step begins with a forward and a backward pass of each sample
        alone, which cost one SGD step more, as ``ausam/sgd_steps`` counts,
        and on a clock longer. Normalization and dropout are as in evaluation,
        with BatchNorm's running statistics, and there is no autocast. FSDP
        and AUSAMBatchSampler are refused; no sample needs an identity.

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
                 favor: str = 'high',
                 decay: float = 1.,
                 keep_losses: str | None = None,
                 max_samples: int | None = None,
                 seed: int | None = None,
                 **kwargs: Any) -> None:
        super().__init__(optimizer, rho=rho, **kwargs)
        self.alpha = ratio_pair(alpha)
        self.schedule = Schedule(s_min, s_max, warmup_epochs, ramp_epochs,
                                 warmup_iters, ramp_iters,
                                 ramps=scores in ('adlp', 'gradient_norm'))
        require_choice('sampling', sampling, 'multinomial', 'systematic')
        require_choice('weighting', weighting, 'none', 'inverse_probability')
        require_choice('scores', scores, 'adlp', 'uniform', 'loss',
                       'gradient_norm')
        require_choice('favor', favor, 'high', 'low')
        require(
            weighting == 'none' or sampling == 'systematic',
            "weighting='inverse_probability' needs inclusion probabilities, "
            "which only sampling='systematic' has: set it, too.")
        require(
            scores != 'loss' or sampling == 'multinomial',
            "scores='loss' takes the highest losses and samples nothing: "
            'leave sampling and weighting out.')
        require(
            scores != 'uniform' or favor == 'high',
            "scores='uniform' favors no sample: leave favor out.")
        require_choice('keep_losses', keep_losses, None, 'last', 'mean')
        require(
            keep_losses is None or scores == 'adlp',
            f"keep_losses={keep_losses!r} is for scores='adlp': with 'loss' "
            'the last losses are kept, with the others no sample is '
            'recognized. Leave it out.')
        self.history = SampleHistory(max_samples, decay)
        self.keep_losses = keep_losses
        self.losses = SampleHistory(max_samples) if keep_losses else None
        require(
            scores == 'adlp' or decay == 1,
            f"decay={decay!r} is for the mean of scores='adlp', and "
            f'scores={scores!r} has none: leave decay out.')
        self.sampling, self.weighting, self.scores, self.favor = (
            sampling, weighting, scores, favor)
        self.keeps_scores = scores in ('adlp', 'loss')
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
                what an AUSAMBatchSampler selected has not come, or is not all
                that the losses need.
        """
        waiting = self.message_hub.runtime_info.pop(WAITING, lambda: None)()
        if waiting is not None:
            self.connect(waiting)
        if self.batch_sampler is None:
            size = batch_size(data)
            keys = self._keys(data, size)
            selection = self.select_from(size, keys, self.num_steps)
        else:
            for name in self._losses.heads if self._losses else ():
                raise ValueError(
                    f'`{name}` divides by numbers of boxes of the full batch, '
                    'of which AUSAMBatchSampler loads the selected images '
                    'only: leave it out of train_dataloader.')
            selection = self.batch_sampler.arrived(data)
            keys = self._keys(data, selection.loaded, selection.origins)
        selection.keys = keys
        return selection

    def _keys(self, data: Any, size: int,
              numbers: Tensor | None = None) -> Tensor:
        """The keys of a batch's samples, which may have numbers besides."""
        if not self.keeps_scores:  # no sample is recognized
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
        # Gradients are not known before the step.
        if self.scores == 'gradient_norm' or self._uses_all(size, number):
            return Selection.full_batch(size)
        return self.select_by_scores(
            self.history.means(keys) if self.keeps_scores
            else torch.zeros(size), number)

    def needs_gradient_norms(self, step: Step) -> bool:
        """Whether they are the scores, and not all samples are used.

        Raises:
            ValueError: If they cannot be had.
        """
        if self.scores != 'gradient_norm':
            return False
        require(
            not is_fsdp(step.model),
            "scores='gradient_norm' needs the gradients of samples, which "
            'FSDP averages over the processes: train with DDP, or leave '
            'scores out.')
        return not self._uses_all(step.selection.size, self.num_steps)

    def select_by_gradient_norm(self, step: Step,
                                norms: Tensor) -> Selection:
        """Step 1 of the algorithm by norms of gradients (see the class)."""
        return self.select_by_scores(norms, self.num_steps)

    def _uses_all(self, size: int, number: int) -> bool:
        """Whether the passes see all samples of a batch."""
        if self.in_warmup(number) or self._numbers(size)[0] == size:
            return True
        # Until full batches have shown how the loss is made of the samples',
        # its scale on a sub-batch is unknown.
        if not self.losses_verified:
            self._say_unverified()
            return True
        return False

    def _numbers(self, size: int) -> list[int]:
        """How many samples of a batch the two passes see."""
        return [num_selected(ratio, size, self.least_samples)
                for ratio in self.alpha]

    def select_by_scores(self, scores: Tensor, number: int) -> Selection:
        """Step 1 of the algorithm, from scores that are known.

        Args:
            scores (Tensor): The a_i of a batch, shape (b, ); NaN where one is
                unknown, -inf for a sample that failed.
            number (int): The number of the batch in the training.
        """
        ascent, descent = self._numbers(len(scores))
        # Of this step and process, and the same after a resume.
        generator = step_generator(self.seed, get_rank(), number)
        if self.favor == 'low':
            scores = favoring_low(scores)
        if self.scores == 'loss':
            return select_highest(scores, ascent, descent, generator)
        q = torch.ones(len(scores), dtype=torch.float64)
        if self.scores != 'uniform':
            q = selection_probabilities(
                scores, self.schedule.s_min, self.current_s_max(number))
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
        if not self.keeps_scores:  # no sample is recognized
            seen, values = seen[:0], values[:0]
        keys, total = selection.keys[seen], selection.size
        more = [] if self.losses is None else [losses.view(torch.int64)]
        if self.batch_sampler is not None:
            total, keys, values, origins, *more = gather_observations(
                keys, values, selection.origins[seen], *more, offered=total)
            self.batch_sampler.learn(origins, keys)
        elif self.keeps_scores:
            total, keys, values, *more = gather_observations(
                keys, values, *more, offered=total)
        self.samples_seen += total
        self._learn(keys, values)
        if self.losses is not None:
            keep = self.losses.replace if self.keep_losses == 'last' \
                else self.losses.update
            keep(keys, more[0].view(torch.float64))

    def _learn(self, keys: Tensor, values: Tensor) -> None:
        """Puts the observations of all processes into the table."""
        if not self.keeps_scores:
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
        plan += f', {self.schedule.plan()}'
        for name, value, default in (
                ('scores', self.scores, 'adlp'), ('favor', self.favor, 'high'),
                ('decay', self.history.decay, 1)):
            if value != default:
                plan += f', {name}={value!r}'
        return plan

    def cautions(self) -> list[str]:
        """A warm-up or ramp that is longer than the training."""
        return [] if self.alpha[0] == 1 else self.schedule.cautions(
            type(self).__name__, self.message_hub)

    def connect(self, batch_sampler: AUSAMBatchSampler) -> None:
        """Leaves the selection to a batch sampler, which asks for it.

        Raises:
            ValueError: If there is another already, or scores are not known
                before loading.
        """
        if self.batch_sampler is batch_sampler:
            return
        require(
            self.scores != 'gradient_norm',
            "scores='gradient_norm' needs all samples of a batch, of which "
            'AUSAMBatchSampler loads the selected ones only: leave it out of '
            'train_dataloader.')
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
        return self.schedule.in_warmup(partial(self._passed, number))

    def current_s_max(self, number: int) -> float:
        """s_max(t): linear from s_min to s_max over the ramp.

        Args:
            number (int): The number of the batch in the training.
        """
        return self.schedule.s_max_now(partial(self._passed, number))

    def _passed(self, number: int, unit: str) -> int:
        """How much of the training is over, in epochs or iterations."""
        return number if unit == 'iters' else self.epoch()

    def epoch(self) -> int:
        """The current epoch, from 0.

        Raises:
            ValueError: If nothing tells where an epoch ends.
        """
        if counts_epochs(self.message_hub):
            return int(self.message_hub.get_info('epoch'))
        if self.schedule.warmup_epochs == self.schedule.ramp_epochs == 0:
            return 0
        require(
            self.keeps_scores,
            f'With scores={self.scores!r} no sample is recognized, so that in '
            'an iteration-based loop an epoch has no end: set warmup_iters '
            'and ramp_iters.')
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
        if self.losses is not None:
            state['losses'] = self.losses.state_dict()
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
        if self.losses is not None and 'losses' in state:
            self.losses.load_state_dict(state['losses'])
        self._batch_sampler_state = state.get('batch_sampler')
