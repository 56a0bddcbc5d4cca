"""The loss along lines and on planes through the space of weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..checks import require
from .objective import Objective, Weights

STATISTICS = (
    "BatchNorm's running statistics are interpolated as the weights are; "
    'beyond the checkpoints they are those of the nearer one.')
COUNT = 'num_batches_tracked'


def grid(ends: Sequence[float], steps: int,
         through: Sequence[float]) -> list[float]:
    """Evenly spaced coordinates, and those that must be among them.

    Args:
        ends (Sequence[float]): The lowest and the highest.
        steps (int): How many evenly spaced ones.
        through (Sequence[float]): Those that are added if they are missing.
    """
    low, high = ends
    even = np.linspace(low, high, steps).round(12).tolist()
    return sorted({*even, *through})


def state_of(model: nn.Module) -> Weights:
    """A copy of all weights and buffers."""
    return {name: value.detach().clone()
            for name, value in model.state_dict().items()}


def interpolate(start: Weights, end: Weights, t: float,
                between: Container[str]) -> Weights:
    """The point at t on the line from one state to another.

    Args:
        start (dict[str, Tensor]): The state at 0.
        end (dict[str, Tensor]): The state at 1.
        t (float): The place; below 0 and above 1 the line goes on.
        between (Container[str]): What stays between its ends: a variance
            would become negative beyond them.

    Returns:
        dict[str, Tensor]: Parameters and buffers. What is no floating-point
        number is that of the start.
    """
    inside = min(1., max(0., t))
    return {name: torch.lerp(value, end[name],
                             inside if name in between else t)
            if value.is_floating_point() else value
            for name, value in start.items()}


def check_states(states: Sequence[Weights], files: Sequence[str]) -> None:
    """Sees whether there are lines between states.

    Raises:
        ValueError: If they differ in something that has no steps between.
    """
    for state, file in zip(states[1:], files[1:]):
        for name, value in state.items():
            require(
                value.is_floating_point() or name.endswith(COUNT)
                or torch.equal(value, states[0][name]),
                f'{name} of {file} is not that of {files[0]}, and there is '
                'nothing between them: name checkpoints that agree in it.')


def walk(objective: Objective, start: Weights, end: Weights,
         places: Sequence[float], visited: Callable[[], Any]
         ) -> dict[str, list[Any]]:
    """Loss and accuracy along the line between two states.

    Args:
        objective (Objective): The loss.
        start (dict[str, Tensor]): The state at 0, as :func:`state_of`
            returns it.
        end (dict[str, Tensor]): The state at 1.
        places (Sequence[float]): Where on the line.
        visited (Callable): Called after each place.

    Returns:
        dict[str, list]: ``loss`` and ``accuracy`` by place. The accuracy is
        None if the model is no classifier, and where the loss overflows,
        which counts as infinite.
    """
    found: dict[str, list[Any]] = dict(loss=[], accuracy=[])
    between = {name for name, _ in objective.model.named_buffers()}.union(
        objective.step_sizes)
    for t in places:
        loss, accuracy = _look(
            objective, interpolate(start, end, t, between))
        found['loss'].append(loss)
        found['accuracy'].append(accuracy)
        visited()
    return found


def _look(objective: Objective,
          weights: Weights) -> tuple[float, float | None]:
    """Loss and accuracy; infinite and None where the loss overflows."""
    loss, accuracy = objective.loss_and_accuracy(weights)
    return (loss, accuracy) if math.isfinite(loss) else (math.inf, None)


def random_direction(params: Weights, seed: int) -> Weights:
    """A random direction whose filters are as long as the weights' own.

    Filter normalization of Li et al., "Visualizing the Loss Landscape of
    Neural Nets", NeurIPS 2018 (arXiv 1712.09913): a filter is what belongs to
    one index of a weight's first dimension. Parameters of one dimension,
    such as biases and those of BatchNorm, do not move.

    Args:
        params (dict[str, Tensor]): The weights.
        seed (int): Decides the direction.
    """
    generator = torch.Generator().manual_seed(seed)
    direction = {}
    for name, w in params.items():
        noise = torch.randn(w.shape, generator=generator).to(w)
        if w.dim() < 2:
            direction[name] = torch.zeros_like(noise)
            continue
        length = noise.flatten(1).norm(dim=1).clamp(min=1e-12)
        scale = w.detach().flatten(1).norm(dim=1) / length
        direction[name] = noise * scale.view(-1, *[1] * (w.dim() - 1))
    return direction


def survey(objective: Objective, directions: tuple[Weights, Weights],
           places: Sequence[float], visited: Callable[[], Any]
           ) -> dict[str, list[list[Any]]]:
    """Loss and accuracy on a plane around the model's weights.

    Buffers stay as they are.

    Args:
        objective (Objective): The loss.
        directions (tuple[dict, dict]): The two directions of the plane,
            shaped as the parameters.
        places (Sequence[float]): Coordinates along both of them.
        visited (Callable): Called after each point.

    Returns:
        dict[str, list[list]]: ``loss`` and ``accuracy``; rows go along the
        second direction, and places in a row along the first.
    """
    center, (first, second) = objective.weights(), directions
    found: dict[str, list[list[Any]]] = dict(loss=[], accuracy=[])
    for y in places:
        row = []
        for x in places:
            row.append(_look(objective, {
                name: moved(w, (first[name], x), (second[name], y))
                for name, w in center.items()}))
            visited()
        found['loss'].append([loss for loss, _ in row])
        found['accuracy'].append([accuracy for _, accuracy in row])
    return found


def moved(weight: Tensor, *steps: tuple[Tensor, float]) -> Tensor:
    """A weight after steps along directions; itself where they are 0."""
    for direction, length in steps:
        if length:
            weight = torch.add(weight, direction, alpha=length)
    return weight
