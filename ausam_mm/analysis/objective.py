"""The training loss of fixed samples as a function of the weights."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ..checkpoints import UntrustedCheckpointError
from ..checks import require
from ..engine.capture import Call
from .gradients import call_of

EVAL_MODE = (
    'The model is in eval mode: BatchNorm normalizes by its running '
    'statistics, dropout and batch augmentations such as Mixup are off.')

# By the derivatives of the step sizes the Hessian would not be symmetric.
ESTIMATOR = (
    'The model is quantized: first and second derivatives are those of the '
    'straight-through estimator, and step sizes do not move.')

# Parameters, or parameters and buffers, by name.
Weights = dict[str, Tensor]


class Objective:
    """The loss of a model on fixed samples, in eval mode.

    It is the mean over batches of what the model's own ``mode='loss'``
    returns, summed by its ``parse_losses``. The model's weights are never
    changed: passes at other weights are functional calls.

    Args:
        model (nn.Module): The model, which is put into eval mode.
        batches (Sequence[Any]): What a data loader returns, all batches of
            the same size.

    Attributes:
        params (dict[str, Parameter]): What the loss is a function of: the
            parameters that are trained, but the step sizes of a quantized
            model.
        step_sizes (list[str]): The names of those.
        labels (Tensor, optional): The labels of a classifier's samples,
            shape (n, ), int64; None where samples have no label.
    """

    def __init__(self, model: nn.Module, batches: Sequence[Any]) -> None:
        model.eval()  # which returns None for backbones of mmpretrain
        self.model = model
        self.params = {name: p for name, p in model.named_parameters()
                       if p.requires_grad and not _is_step_size(p)}
        self.step_sizes = [name for name, p in model.named_parameters()
                           if _is_step_size(p)]
        require(self.params, f'{type(model).__name__} has no parameter that '
                'is trained: name a config that freezes fewer.')
        with torch.no_grad():
            self.calls = [call_of(model, data, training=False)
                          for data in batches]
        labels = [_labels_of(call) for call in self.calls]
        self.labels = torch.cat(labels) if all(  # type: ignore[arg-type]
            each is not None for each in labels) else None

    @property
    def note(self) -> str:
        """What figures of this loss have to be read with."""
        return f'{EVAL_MODE} {ESTIMATOR}' if self.step_sizes else EVAL_MODE

    def weights(self) -> Weights:
        """The parameters as they are, without their history."""
        return {name: p.detach() for name, p in self.params.items()}

    def loss_of(self, weights: Mapping[str, Tensor], call: Call) -> Tensor:
        """The loss of a batch, shape ().

        Args:
            weights (Mapping[str, Tensor]): Parameters and buffers; those
                that are not named are the model's own.
            call (Call): One of :attr:`calls`.
        """
        args, kwargs = call
        losses = functional_call(self.model, dict(weights), args, kwargs)
        model: Any = self.model
        loss: Tensor = model.parse_losses(losses)[0]
        return loss

    @torch.no_grad()
    def loss(self, weights: Mapping[str, Tensor] | None = None) -> float:
        """The loss at some weights, by default at the model's own."""
        return sum(float(self.loss_of(weights or {}, call))
                   for call in self.calls) / len(self.calls)

    def loss_and_gradient(self, weights: Weights) -> tuple[float, Weights]:
        """The loss at some weights, and its gradient there.

        Args:
            weights (dict[str, Tensor]): All of :attr:`params`.
        """
        moved = {name: w.detach().requires_grad_()
                 for name, w in weights.items()}
        value, gradient = 0., {name: torch.zeros_like(w)
                               for name, w in weights.items()}
        with torch.enable_grad():
            for call in self.calls:
                loss = self.loss_of(moved, call)
                grads = torch.autograd.grad(loss, list(moved.values()),
                                            allow_unused=True)
                value += float(loss.detach()) / len(self.calls)
                for sum_, grad in zip(gradient.values(), grads):
                    if grad is not None:
                        sum_.add_(grad, alpha=1 / len(self.calls))
        return value, gradient

    @torch.no_grad()
    def loss_and_accuracy(self, weights: Mapping[str, Tensor] | None = None
                          ) -> tuple[float, float | None]:
        """The loss, and the ratio of samples that are classified as labeled.

        Returns:
            tuple[float, float]: The second is None if the model is no
            classifier: its samples have no labels, or its head no scores.
        """
        scores: list[Tensor] = []
        head = getattr(self.model, 'head', None)
        if self.labels is None or not isinstance(head, nn.Module):
            return self.loss(weights), None
        handle = head.register_forward_hook(
            lambda module, args, output: scores.append(output))
        try:
            loss = self.loss(weights)
        finally:
            handle.remove()
        if len(scores) != len(self.calls) or not all(
                isinstance(each, Tensor) and each.dim() == 2
                for each in scores):
            return loss, None
        right = torch.cat(scores).argmax(1) == self.labels
        return loss, float(right.double().mean())

    def check(self, name: str) -> float:
        """The loss, if it is finite and the same twice.

        Args:
            name (str): What has these weights.

        Raises:
            ValueError: If it is not.
        """
        loss = self.loss()
        require(math.isfinite(loss), f'The loss of {name} is not finite: name '
                'a checkpoint from before the training diverged.')
        again = self.loss()
        require(
            math.isclose(loss, again, rel_tol=1e-3, abs_tol=1e-6),
            f'The loss of {name} changes from pass to pass ({loss:g}, '
            f'{again:g}) in eval mode: leave out what is random in '
            f'{type(self.model).__name__}.')
        return loss


def _is_step_size(p: Tensor) -> bool:
    """Whether a parameter is a step size of a quantizer."""
    return hasattr(p, 'keep_valid')


def _labels_of(call: Call) -> Tensor | None:
    """The labels of a batch, shape (b, ); None if a sample has not one."""
    args, kwargs = call
    samples = kwargs.get('data_samples', args[1] if len(args) > 1 else None)
    if not isinstance(samples, Sequence) or not samples:
        return None
    labels = [getattr(sample, 'gt_label', None) for sample in samples]
    if not all(isinstance(label, Tensor) and label.numel() == 1
               for label in labels):
        return None
    return torch.stack([label.reshape(()) for label in labels
                        if label is not None])


# -- samples and checkpoints --


def read_samples(dataset: Any, number: int, seed: int) -> list[Any]:
    """Some samples of a data set, the same for the same seed.

    Args:
        dataset (Dataset): The training data. Its augmentations draw from the
            global generators.
        number (int): How many.
        seed (int): Decides which.
    """
    order = torch.randperm(
        len(dataset), generator=torch.Generator().manual_seed(seed))
    return [dataset[i] for i in order[:number].tolist()]


def batches_of(samples: Sequence[Any], size: int,
               collate: Callable[[list[Any]], Any]) -> list[Any]:
    """Full batches of samples; an incomplete last one is left out."""
    return [collate(list(samples[start:start + size]))
            for start in range(0, len(samples) - size + 1, size)]


def check_file(path: Path) -> None:
    """Sees whether there is a checkpoint, before anything is computed."""
    require(path.is_file(), f'There is no checkpoint {path}: name files that '
            'trainings with this config wrote, such as epoch_2.pth.')


def load_weights(path: Path, model: nn.Module) -> None:
    """Loads the weights of a checkpoint, whatever has trained them.

    Args:
        path (Path): The checkpoint, of MMEngine or a state dict alone.
        model (nn.Module): The model, which gets them.

    Raises:
        ValueError: If there is no such file, or it is of another model.
    """
    check_file(path)
    try:
        content = torch.load(path, map_location='cpu')
    except UntrustedCheckpointError:
        raise
    except (EOFError, RuntimeError, pickle.UnpicklingError) as error:
        raise ValueError(f'{path} cannot be read as a checkpoint: it is '
                         'truncated, or another kind of file.') from error
    try:
        state = content.get('state_dict', content)
        model.load_state_dict(state)
    except (AttributeError, KeyError, RuntimeError, TypeError,
            ValueError) as error:
        raise ValueError(
            f'{path} does not fit the model of the config: name the config '
            'that it was trained with, and checkpoints of one architecture.'
        ) from error
