"""Trainings whose steps are watched, with or without AUSAMBatchSampler."""

import torch
from mmengine.hooks import Hook

from ausam_mm.sampling import sample_keys

from ..runs import Stop, runner
from ..toy import ToyModel

BATCH, EPOCHS, LENGTH = 8, 4, 12
PAPER = dict(type='AUSAM', rho=0.1, alpha=0.5, ramp_epochs=2, seed=3)
SYSTEMATIC = dict(
    PAPER, alpha=(0.25, 0.75), sampling='systematic',
    weighting='inverse_probability')
SAMPLER = dict(type='AUSAMBatchSampler')
WORKERS = dict(
    none=dict(),
    one=dict(num_workers=1, prefetch_factor=3),
    persistent=dict(num_workers=2, persistent_workers=True))


class Steps(Hook):
    """What each step saw: keys, first pass, weights, losses, batch size."""

    def __init__(self):
        self.seen = []

    def before_train(self, runner):
        wrapper, observe = runner.optim_wrapper, runner.optim_wrapper.observe

        def spy(step):
            selection = step.selection
            numbers = selection.origins if len(selection.origins) else None
            self.seen.append(dict(
                loaded=selection.loaded, size=selection.size,
                keys=sample_keys(self.data, numbers)[selection.descent],
                ascent=selection.ascent_in_descent,
                weights=[selection.descent_weights, selection.ascent_weights],
                effective=selection.effective_size,
                losses=[step.first.losses, step.second.losses]))
            observe(step)

        wrapper.observe = spy

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.data = data_batch


def train(work_dir, wrapper=PAPER, in_loader=True, stop=None, hooks=(),
          model=lambda: ToyModel(norm=True).double(), **options):
    """Trains, and returns the Runner with the steps in ``run.seen``."""
    torch.manual_seed(0)
    steps = Steps()
    hooks = [steps, *hooks, *([Stop(stop)] if stop else [])]
    loader, loop = options.pop('loader', {}), options.pop('loop', {})
    options = {**dict(length=EPOCHS), **options}
    run = runner(work_dir, wrapper, custom_hooks=hooks,
                 model=model(), **options)
    run._train_dataloader.update(
        loader, **(dict(batch_sampler=dict(SAMPLER)) if in_loader else {}))
    run._train_loop.update(loop)
    run.seen = steps.seen
    try:
        run.train()
    except KeyboardInterrupt:
        assert stop
    return run


def state(run):
    """Weights and everything that the wrapper keeps."""
    wrapper = run.optim_wrapper.state_dict()
    assert wrapper['ausam_mm'].pop('loss_modules')
    return [run.model.state_dict(), wrapper]


def assert_same(one, other):
    torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)
