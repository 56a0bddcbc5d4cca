"""Randomness that depends on a seed and a step, and so survives a resume."""

import torch
from mmengine.dist import broadcast_object_list
from numpy.random import SeedSequence
from torch import Tensor


def checked_seed(seed: int | None) -> int:
    """The given seed, or PyTorch's.

    Args:
        seed (int, optional): The seed; None for PyTorch's current seed.

    Raises:
        ValueError: If it is no seed.
    """
    if seed is None:
        return torch.initial_seed()
    if not isinstance(seed, int) or seed < 0:
        raise ValueError(f'seed={seed!r} must be an integer of at least 0: '
                         "set one, or None for PyTorch's seed.")
    return seed


def common_seed(seed: int | None) -> int:
    """The same seed in all processes: the first one's where they differ.

    Args:
        seed (int, optional): The seed; None for PyTorch's current seed.

    Raises:
        ValueError: If it is no seed.
    """
    seeds = [checked_seed(seed)]
    broadcast_object_list(seeds)
    return seeds[0]


def step_generator(seed: int, *numbers: int,
                   device: str | torch.device = 'cpu') -> torch.Generator:
    """A generator for one step: the same numbers give the same randomness.

    Args:
        seed (int): The seed of the training.
        *numbers (int): What tells the step, such as process and step.
        device (str | torch.device): Where it draws; devices of another kind
            draw other numbers. Defaults to 'cpu'.

    Returns:
        torch.Generator: On the device.
    """
    state = SeedSequence([seed, *numbers]).generate_state(1, 'uint64')
    return torch.Generator(device).manual_seed(int(state[0]))


def uniform(seed: int, step: int, num: int = 1) -> Tensor:
    """Uniform numbers in [0, 1) of a step.

    Args:
        seed (int): The seed of the training.
        step (int): The step, from 0.
        num (int): How many. Defaults to 1.

    Returns:
        Tensor: The numbers, shape (num, ), float64.
    """
    return torch.rand(num, dtype=torch.double,
                      generator=step_generator(seed, step))
