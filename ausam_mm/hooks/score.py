"""The scores of samples in MMEngine's visualizer, while a training runs."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from ..checks import require
from ..methods import AUSAM

if TYPE_CHECKING:
    from ..analysis.samples import Samples
    from ..tooling.drawing import Drawer, Image

_QUANTILES = {'min': 0., 'q05': 0.05, 'q25': 0.25, 'median': 0.5,
              'q75': 0.75, 'q95': 0.95, 'max': 1.}


@HOOKS.register_module()
class ScoreHook(Hook):
    """Shows AUSAM's scores in every backend of MMEngine's visualizer.

    At an interval it writes quantiles of the scores and of how often samples
    were used (``scores/...``), a histogram of both, and the images of the
    samples that were used most often, with a red frame where LabelNoise or
    KeypointNoise made a label wrong. So TensorBoard, W&B, MLflow and Aim show
    them. It changes nothing in the training.

    The images are those of the training data by the pipeline of the
    validation, as ``tools/analyze.py scores`` draws them.

    Cost: each time a copy and a sort of the table and a picture. With images,
    once at the start, the annotations of the training data are read a second
    time and kept, and each sample's is looked at; then each time ``number``
    images are loaded. All of that in the main process, while the others wait
    for it in the next step.

    Args:
        interval (int): Epochs, or iterations, from one time to the next.
            Defaults to 1.
        by_epoch (bool): Whether the interval counts epochs. Defaults to True.
        number (int): Images to show; 0 for none. Defaults to 12.

    Raises:
        ValueError: For options out of range.

    Example:
        >>> optim_wrapper = dict(
        ...     type='AUSAM', rho=0.1, alpha=0.5,
        ...     optimizer=dict(type='SGD', lr=0.1))
        >>> custom_hooks = [dict(type='ScoreHook', interval=1, number=0)]
    """

    priority = 'LOW'  # after the step, before the checkpoint

    def __init__(self, interval: int = 1, by_epoch: bool = True,
                 number: int = 12) -> None:
        require(
            isinstance(interval, int) and interval > 0,
            f'interval={interval!r} must be an integer of at least 1: it '
            'counts epochs, or iterations with by_epoch=False.')
        require(
            isinstance(number, int) and number >= 0,
            f'number={number!r} is no number of images: set 0 for none.')
        self.interval = interval
        self.by_epoch = by_epoch
        self.number = number
        self._samples: Samples | None = None
        self._drawer: Drawer | None = None

    def before_train(self, runner: Runner) -> None:
        """Sees whether there are scores, and finds the samples.

        Raises:
            ValueError: If there are no scores, or the images cannot be
                drawn.
        """
        wrapper = runner.optim_wrapper
        require(
            isinstance(wrapper, AUSAM) and wrapper.keeps_scores,
            f'ScoreHook shows the scores that AUSAM keeps, and '
            f'{type(wrapper).__name__} keeps none here: leave the hook out, '
            "or train with AUSAM and scores='adlp'.")
        if self.number and self._drawer is None and is_main_process():
            with _unchanged_randomness():
                self._find(runner)

    def after_train_epoch(self, runner: Runner) -> None:
        if self.by_epoch and self.every_n_epochs(runner, self.interval):
            self._show(runner)

    def after_train_iter(self,
                         runner: Runner,
                         batch_idx: int,
                         data_batch: Any = None,
                         outputs: dict[str, Any] | None = None) -> None:
        if not self.by_epoch and self.every_n_train_iters(
                runner, self.interval):
            self._show(runner, runner.iter + 1)

    def _find(self, runner: Runner) -> None:
        """Who the samples are, and what draws them."""
        from ..analysis.evaluation import evaluation_dataset
        from ..analysis.samples import find_samples
        from ..tooling.drawing import Drawer
        loader = runner.train_dataloader
        config = runner.cfg.get('train_dataloader')
        require(
            runner.cfg.get('default_scope') in ('mmpretrain', 'mmpose')
            and isinstance(config, dict) and isinstance(
                config.get('dataset'), dict),
            'ScoreHook draws images of data sets of mmpretrain and mmpose '
            'that the config describes: set number=0 to leave them out.')
        wrapper: Any = runner.optim_wrapper
        self._samples = find_samples(
            loader.dataset, loader.collate_fn,
            wrapper.batch_sampler is not None, load=False)
        dataset, _ = evaluation_dataset(runner.cfg)
        self._drawer = Drawer(runner.cfg, dataset)

    def _show(self, runner: Runner, step: int | None = None) -> None:
        """Writes scalars and pictures, in the main process."""
        if not is_main_process():
            return
        step = runner.iter if step is None else step
        wrapper: Any = runner.optim_wrapper
        table = wrapper.history.state_dict()
        known = table['counts'] >= 0  # the others have failed
        scores, counts = table['means'][known], table['counts'][known]
        if not len(scores):
            print_log('ScoreHook: no sample has a score yet.',
                      logger='current')
            return
        visualizer: Any = runner.visualizer
        scalars = {
            f'scores/{name}': float(value) for name, value in zip(
                _QUANTILES, np.quantile(scores.numpy(), [
                    *_QUANTILES.values()]))}
        scalars.update({
            'scores/mean': float(scores.mean()),
            'scores/samples': len(scores),
            'scores/failed': int((~known).sum()),
            'scores/used_mean': float(counts.double().mean()),
            'scores/used_max': int(counts.max())})
        visualizer.add_scalars(scalars, step=step)
        from ..analysis.scores_report import draw_histograms
        # MLflow wants the name of a file.
        visualizer.add_image('score_histogram.png', draw_histograms(
            scores, counts, f'step {step}'), step)
        if self._drawer is not None:
            with _unchanged_randomness():
                visualizer.add_image('most_used.png', self._gallery(
                    wrapper, step), step)

    def _gallery(self, wrapper: AUSAM, step: int) -> 'Image':
        """The samples that were used most often."""
        from ..analysis.scores_report import draw_gallery
        samples, drawer = self._samples, self._drawer
        assert samples is not None and drawer is not None
        counts = wrapper.history.counts(samples.keys)
        means = wrapper.history.means(samples.keys)
        # Of those that were used as often, the ones with higher scores.
        order = np.lexsort((-means.numpy(), -counts.numpy()))
        images = []
        for i in order[:self.number].tolist():
            sample = drawer.dataset[int(samples.indices[i])]
            image = drawer.transformed(sample) if drawer.poses \
                else drawer.enlarged(drawer.plain(sample))
            label = f'labeled {samples.name_of(int(samples.groups[i]))}' \
                if samples.grouped == 'class' else ''
            images.append((
                image, f'used {int(counts[i])}x, score '
                f'{float(means[i]):.3g}\n{label}',
                samples.wrong is not None and bool(samples.wrong[i])))
        return draw_gallery({f'Most used, step {step}': images})


@contextmanager
def _unchanged_randomness() -> Iterator[None]:
    """What draws random numbers in the context changes no others."""
    states = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])
