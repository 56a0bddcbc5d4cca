"""Functions and models in several real processes over gloo."""

import faulthandler
import os
import sys
import tempfile
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from mmengine.model.wrappers import MMFullyShardedDataParallel
from torch import nn
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.distributed.fsdp.wrap import ModuleWrapPolicy

CPU = torch.device('cpu')


def launch(function, world_size, *args, backend='gloo', timeout=120,
           meet=True):
    """Calls ``function(*args)`` in each process; returns their results.

    Args:
        function (Callable): A function at the top of a module. What it
            returns must load with ``torch.load``.
        world_size (int): The number of processes.
        *args: Its arguments.
        backend (str): What the processes communicate through; with 'nccl'
            each has a GPU of its own. Defaults to 'gloo'.
        timeout (float): Seconds that they wait for each other. Defaults to
            120.
        meet (bool): Whether they do so at the end, before any of them ends.
            Defaults to True.

    Returns:
        list: The results, by rank.
    """
    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(_work, (function, world_size, folder, args, backend, timeout,
                         meet), world_size)
        return [
            torch.load(Path(folder) / f'{rank}.pt', weights_only=False)
            for rank in range(world_size)
        ]


def _work(rank, function, world_size, folder, args, backend, timeout, meet):
    faulthandler.enable()
    torch.set_num_threads(1)
    os.environ.update(LOCAL_RANK=str(rank))
    if backend == 'nccl':
        torch.cuda.set_device(rank)
    dist.init_process_group(
        backend,
        init_method=f'file://{folder}/store',
        rank=rank,
        world_size=world_size,
        timeout=timedelta(seconds=timeout))
    torch.save(function(*args), Path(folder) / f'{rank}.pt')
    if meet:
        dist.barrier()
        dist.destroy_process_group()
    # The result is written. FSDP's modules keep threads of the process group
    # alive, which abort now and then while the interpreter is taken down
    # around them (pytorch/pytorch#90549): this process ends without that.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def shard(model):
    """A model under FSDP, each linear layer by itself."""
    return MMFullyShardedDataParallel(
        model, auto_wrap_policy=ModuleWrapPolicy({nn.Linear}), device_id=CPU)


def unsharded_weights(outer):
    """All weights of a model under FSDP, in every process."""
    with FullyShardedDataParallel.summon_full_params(outer):
        return torch.cat(
            [p.detach().flatten().clone() for p in outer.parameters()])
