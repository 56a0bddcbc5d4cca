"""Real trainings of the small model by MMEngine's Runner."""

import json
import random
from itertools import count
from pathlib import Path

import numpy as np
import torch
from mmengine.dataset import InfiniteSampler
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch.utils.data import Dataset

from .toy import ToyModel, batch

SIZE = 24
_names = count()


class Samples(Dataset):
    """Some samples, with noise from every generator if it is wanted."""

    def __init__(self, noise=0., size=SIZE):
        self.data = batch(size=size)
        self.noise = noise

    def __len__(self):
        return len(self.data['inputs'])

    def __getitem__(self, i):
        noise = random.random() + np.random.rand() + torch.rand(())
        return dict(
            inputs=self.data['inputs'][i] + self.noise * noise,
            data_samples=self.data['data_samples'][i])


class Stop(Hook):
    """Ends the training before an iteration, as a crash would."""

    def __init__(self, iteration):
        self.iteration = iteration

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == self.iteration:
            raise KeyboardInterrupt


def runner(work_dir, wrapper, by_epoch=True, length=4, endless=None,
           exact=False, noise=0., size=SIZE, interval=1,
           checkpoints_by_epoch=None, seed=0, model=None, **kwargs):
    """A Runner: 3 iterations an epoch, a log line and checkpoint each time.

    ``length`` counts epochs, or iterations if not ``by_epoch``; ``endless``
    is the sampler, by default where there are no epochs;
    ``checkpoints_by_epoch`` is what ``interval`` counts, by default
    ``by_epoch``; ``exact`` takes a loop of exact resume.
    """
    torch.manual_seed(0)
    model = model or ToyModel(norm=True, dropout=0.1).double()
    endless = not by_epoch if endless is None else endless
    sampler = dict(type=InfiniteSampler if endless else 'DefaultSampler',
                   shuffle=True)
    loop = dict(by_epoch=True, max_epochs=length) if by_epoch else dict(
        by_epoch=False, max_iters=length)
    if exact:
        del loop['by_epoch']
        kind = 'Epoch' if by_epoch else 'Iter'
        loop['type'] = f'ExactResume{kind}BasedTrainLoop'
    if checkpoints_by_epoch is None:
        checkpoints_by_epoch = by_epoch
    return Runner(
        model,
        str(work_dir),
        train_dataloader=dict(
            batch_size=8,
            num_workers=0,
            dataset=Samples(noise, size),
            sampler=sampler,
            collate_fn=dict(type='pseudo_collate')),
        train_cfg=loop,
        optim_wrapper=dict(
            optimizer=dict(type='SGD', lr=0.02, momentum=0.9), **wrapper),
        param_scheduler=dict(
            type='LinearParamScheduler',
            param_name='rho',
            start_factor=1.,
            end_factor=0.5,
            begin=0,
            end=4) if wrapper['type'] not in (
                'OptimWrapper', 'CPUAmpOptimWrapper') else None,
        default_hooks=dict(
            logger=dict(type='LoggerHook', interval=1),
            checkpoint=dict(
                type='CheckpointHook', interval=interval,
                by_epoch=checkpoints_by_epoch)),
        randomness=dict(seed=seed),
        experiment_name=f'run_{next(_names)}',
        **kwargs)


def scalars(run):
    """The lines of a run's log."""
    file = next(iter(sorted(Path(run.log_dir).rglob('scalars.json'))))
    return [json.loads(line) for line in file.read_text().splitlines()]
