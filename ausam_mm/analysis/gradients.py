"""The gradients of samples, and what scores say of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from scipy.stats import spearmanr
from torch import Tensor, nn

from ..checks import require
from ..engine import gradients, vector_norm
from ..engine.aside import Aside
from ..engine.capture import Call
from ..engine.forward_state import ForwardState
from ..losses import PassRecord
from ..methods import AUSAM
from ..sampling import identities, keys_of
from ..sampling.origins import Origins
from ..undo import Undo
from .samples import open_checkpoint, require_known, table_in, wrong_labels
from .selections import (
    WAYS,
    compare_selections,
    selection_weights,
    selector,
)

BATCHNORM = (
    'BatchNorm in eval mode: it normalizes by its running statistics, so that '
    "the gradient of a sample is its own; dropout is off. In the training's "
    'own passes BatchNorm normalizes by the batch.')
# The most bytes of the gradients of a batch.
LIMIT = 4 * 10**9
_CHUNK = 2**16

@dataclass
class Batch:
    """Samples of the training data.

    Attributes:
        data (Any): What the data loader returns.
        indices (Tensor): Their indices in the data set, shape (b, ), int64.
        keys (Tensor): Their keys in the ADLP table, shape (b, ), int64.
        wrong (Tensor, optional): Which have a wrong label, shape (b, ), bool;
            None if no sample of the data set has one.
    """
    data: Any
    indices: Tensor
    keys: Tensor
    wrong: Tensor | None

    def __len__(self) -> int:
        return len(self.indices)


@dataclass
class Look:
    """What a checkpoint makes of the samples of a batch.

    Attributes:
        losses (Tensor): Their losses at w, shape (b, ), float64.
        norms (Tensor): The norms of their gradients, shape (b, ), float64.
        dlp (Tensor): The absolute difference of their losses at w + eps and
            at w, shape (b, ), float64; eps from the gradient of the batch.
        adlp (Tensor): That of the table, shape (b, ), float64; NaN where it
            is unknown, -inf for a sample that failed.
        products (Tensor): The scalar products of their gradients, shape
            (b, b), float64.
    """
    losses: Tensor
    norms: Tensor
    dlp: Tensor
    adlp: Tensor
    products: Tensor


# -- the samples --


def load_batches(dataset: Any, collate: Callable[[list[Any]], Any],
                 samples: int, batch_size: int, seed: int,
                 numbered: bool = False) -> list[Batch]:
    """A part of the data set, the same for the same seed.

    Args:
        dataset (Dataset): The training data.
        collate (Callable): What makes a batch of samples.
        samples (int): How many samples at most; an incomplete last batch is
            left out.
        batch_size (int): Samples of a batch.
        seed (int): Decides which samples they are. Augmentations draw from
            the global generators.
        numbered (bool): Whether the training had an AUSAMBatchSampler, which
            knows samples by their numbers, too. Defaults to False.

    Raises:
        ValueError: If there are fewer than two samples.
    """
    number = min(samples, len(dataset))
    require(number > 1 and batch_size > 1, 'One sample has nothing to be '
            'compared with: take more samples, and a larger batch size.')
    order = torch.randperm(
        len(dataset), generator=torch.Generator().manual_seed(seed))
    batch_size = min(batch_size, number)
    wrong = wrong_labels(dataset)
    origins = Origins(dataset) if numbered else None
    batches = []
    for indices in order[:number // batch_size * batch_size].split(batch_size):
        data = collate([dataset[i] for i in indices.tolist()])
        keys = keys_of(identities(data)) if origins is None else keys_of(
            identities(data), origins.of(indices), origins.restarts_index)
        batches.append(Batch(data, indices, keys,
                             None if wrong is None else wrong[indices]))
    return batches


# -- a checkpoint --


def load_checkpoint(path: Path, cfg: Config, model: nn.Module) -> AUSAM:
    """Loads the weights of a training with AUSAM, and what AUSAM knew.

    Args:
        path (Path): The checkpoint.
        cfg (Config): The config of the training.
        model (nn.Module): Its model, which gets the weights.

    Returns:
        AUSAM: The wrapper, with its table.

    Raises:
        ValueError: If it has no ADLP table, or does not fit the config.
    """
    checkpoint = open_checkpoint(path)
    method = build_optim_wrapper(model, cfg.optim_wrapper)
    require(
        isinstance(method, AUSAM) and method.scores == 'adlp',
        f'The config trains with {cfg.optim_wrapper.get("type", "SGD")}'
        + (f'(scores={method.scores!r})' if isinstance(method, AUSAM) else '')
        + ", which has no ADLP table: name one that trains with AUSAM and "
        "scores='adlp'.")
    assert isinstance(method, AUSAM)
    table_in(checkpoint, path)
    try:
        model.load_state_dict(checkpoint['state_dict'])
        method.load_state_dict(checkpoint['optimizer'])
    except (KeyError, RuntimeError, ValueError) as error:
        raise ValueError(
            f'{path} does not fit the model of the config: name the config '
            'that it was trained with.') from error
    return method


def look(method: AUSAM, model: nn.Module, batch: Batch,
         visited: Callable[[], Any] = lambda: None) -> Look:
    """Passes of a batch's samples, alone and together, in eval mode.

    The weights are afterwards what they were.

    Args:
        method (AUSAM): The wrapper of the model's training.
        model (nn.Module): The model, in training mode.
        batch (Batch): The samples.
        visited (Callable): Called after each sample. Defaults to nothing.

    Raises:
        ValueError: If the loss is not separable, the gradients take too much
            memory, or one is not finite.
    """
    size = len(batch)
    params = [p for group in method.param_groups for p in group['params']
              if p.requires_grad]
    number = sum(p.numel() for p in params)
    require(
        4 * size * number <= LIMIT,
        f'The gradients of {size} samples for {number:,} parameters take '
        f'{4e-9 * size * number:.1f} GB, and {LIMIT / 1e9:g} GB is the limit: '
        'take a smaller batch size.')
    losses, undo = method.per_sample_losses(model), Undo()
    state = ForwardState(model)
    aside = Aside(model, model, losses, state,
                  lambda record: losses.watch(lambda: record, undo), undo)
    call = call_of(model, batch.data)
    state.save(everything=True)
    # How the total loss is made of the samples'.
    aside.judge(call, size, batch.data)

    rows = torch.empty(size, number, device=params[0].device)
    norms: list[Tensor] = []

    def visit() -> None:
        torch.cat([torch.zeros_like(p).flatten() if p.grad is None
                   else p.grad.flatten() for p in params],
                  out=rows[len(norms)])
        norms.append(vector_norm(gradients(params)).double())
        visited()

    try:
        aside.visit_gradients(call, size, batch.data, params, visit)
    except ValueError as error:
        raise ValueError(
            f'{type(model).__name__} has no gradient of a sample alone, which '
            f'this analysis needs: {error.__cause__ or error}') from error
    broken = sum(not bool(norm.isfinite()) for norm in norms)
    require(
        not broken, f'{broken} of {size} samples have a gradient that is not '
        'finite: name a checkpoint from before the training diverged.')

    def losses_now() -> Tensor:
        record = PassRecord(size, size, batch=batch.data, aside=True)
        aside.run(call, record, 'layers')
        return record.losses.double().cpu()

    before = losses_now()
    mean = rows.mean(0).split([p.numel() for p in params])
    for p, part in zip(params, mean):
        p.grad = part.view_as(p).to(p)
    try:
        method.perturbation.perturb(method.param_groups)
        after = losses_now()
    finally:
        method.perturbation.restore()
        for p in params:
            p.grad = None
    return Look(before, torch.stack(norms).cpu(), (after - before).abs(),
                method.history.means(batch.keys), scalar_products(rows))


def call_of(model: Any, data: Any, training: bool = True) -> Call:
    """The arguments with which a model computes the losses of a batch.

    Args:
        model (BaseModel): The model.
        data (Any): What the data loader returns.
        training (bool): Whether batch augmentations are on. Defaults to True.
    """
    inputs = model.data_preprocessor(data, training)
    if isinstance(inputs, dict):
        return (), dict(inputs, mode='loss')
    return tuple(inputs), dict(mode='loss')


def scalar_products(rows: Tensor) -> Tensor:
    """The scalar products of rows, shape (b, b), in double precision."""
    return torch.stack([
        part.double() @ part.double().t()
        for part in rows.split(_CHUNK, 1)]).sum(0).cpu()


def rank_correlation(ones: Tensor, others: Tensor) -> float | None:
    """Spearman's rank correlation of what is finite in both.

    Returns:
        float, optional: None where ranks say nothing: of fewer than three
        pairs, or of equal values.
    """
    both = ones.isfinite() & others.isfinite()
    ones, others = ones[both], others[both]
    if len(ones) < 3 or bool((ones == ones[0]).all()) \
            or bool((others == others[0]).all()):
        return None
    return float(spearmanr(ones.numpy(), others.numpy()).statistic)


# -- all of it --


def analyze(method: AUSAM, model: nn.Module, batches: list[Batch],
            ratios: Sequence[float], selections: int, seed: int,
            visited: Callable[[], Any] = lambda: None
            ) -> tuple[dict[str, Any], dict[str, list[Any]]]:
    """What a checkpoint makes of the samples, and what selections miss.

    Args:
        method (AUSAM): The wrapper, as :func:`load_checkpoint` returns it.
        model (nn.Module): The model with the checkpoint's weights.
        batches (list[Batch]): The samples.
        ratios (Sequence[float]): Ratios of a batch that are selected.
        selections (int): Selections from each batch, at least 2.
        seed (int): Seed of the selections.
        visited (Callable): Called after each sample. Defaults to nothing.

    Returns:
        tuple[dict, dict]: Figures, and what there is of each sample.

    Raises:
        ValueError: If the table knows none of the samples, or the model has
            no gradients of samples.
    """
    known = sum(int(method.history.means(batch.keys).isfinite().sum())
                for batch in batches)
    require_known(known)
    model.train()
    looks = [look(method, model, batch, visited) for batch in batches]

    def joined(name: str) -> Tensor:
        return torch.cat([getattr(each, name) for each in looks])

    norms, s_max = joined('norms'), method.current_s_max(method.num_steps)
    s_min = method.schedule.s_min
    rows = [dict(way=way, ratio=ratio, **_compare_way(
        way, selector(way, ratio, s_min, s_max, seed), looks, batches,
        selections)) for ratio in ratios for way in WAYS]
    figures = dict(
        steps=method.num_steps, rho=method.param_groups[0]['rho'],
        s_min=s_min, s_max=s_max, known=known,
        loss=float(joined('losses').mean()),
        correlation={name: rank_correlation(joined(name), norms)
                     for name in ('dlp', 'adlp', 'losses')},
        selections=rows)
    samples: dict[str, list[Any]] = {
        name: [float(f'{value:.6g}') if math.isfinite(value) else None
               for value in joined(name).tolist()]
        for name in ('losses', 'norms', 'dlp', 'adlp')}
    return figures, samples


def _compare_way(way: str, method: AUSAM, looks: list[Look],
                 batches: list[Batch], number: int) -> dict[str, float]:
    """Means of :func:`compare_selections` over batches, and wrong samples."""
    found, wrong, selected = [], 0, 0
    for i, (each, batch) in enumerate(zip(looks, batches)):
        weights = selection_weights(
            method, getattr(each, WAYS[way][0]),
            range(i * number, (i + 1) * number))
        found.append(compare_selections(each.products, weights))
        if batch.wrong is not None:
            wrong += int((weights[:, batch.wrong] > 0).sum())
            selected += int((weights > 0).sum())
    means = {name: sum(one[name] for one in found) / len(found)
             for name in found[0]}
    return dict(means, wrong=wrong / selected) if selected else means
