"""How sharp a minimum is: the Hessian, and the loss in a ball."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse.linalg import ArpackNoConvergence, eigsh
from torch import Tensor, nn

from ..checks import require
from ..engine import vector_norm
from .objective import Objective, Weights

LEAVE_OUT = 'leave out what needs it with --top 0 --trace-samples 0'
# Relative, of the eigenvalues.
TOLERANCE = 1e-4


def _nothing() -> None:
    """Where nobody watches."""


# -- the Hessian --


class _Given(nn.Module):
    """The loss of a model that has computed it already."""

    reduction = 'mean'

    def forward(self, loss: Tensor, _: Tensor) -> Tensor:
        return loss


def _curvlinops() -> Any:
    try:
        return import_module('curvlinops')
    except ImportError as error:
        raise ValueError(
            'The Hessian needs curvlinops, which is not installed: pip '
            f'install curvlinops-for-pytorch, or {LEAVE_OUT}.') from error


def make_hessian(objective: Objective,
                 visited: Callable[[], Any] = _nothing) -> Any:
    """The Hessian of a loss at the model's weights, as curvlinops has it.

    Its products are second derivatives by autograd in place of torch.func's,
    which sees neither through numpy (the accuracy in mmpose's heads) nor
    through LSQ's quantizer. For a quantized model they are those of the
    straight-through estimator.

    Args:
        objective (Objective): The loss.
        visited (Callable): Called after each product of a batch with a
            vector. Defaults to nothing.

    Returns:
        HessianLinearOperator: Of shape (p, p).

    Raises:
        ValueError: If curvlinops is not installed.
    """
    class Hessian(
            _curvlinops().HessianLinearOperator):  # type: ignore[misc]
        """With products by double back-propagation (curvlinops 3.0.1)."""

        def _matmat_batch(self, X: Any, y: Tensor,  # noqa: N803, theirs
                          M: list[Tensor]) -> list[Tensor]:  # noqa: N803
            params = list(self._params)
            with torch.enable_grad():
                grads = _gradient(self._model_func(X), params)
            if X is objective.calls[0]:
                _check_graph(grads)
            columns = []
            for vector in zip(*(each.unbind(-1) for each in M)):
                columns.append(_gradient(grads, params, vector))
                visited()
            return [torch.stack(parts, -1) for parts in zip(*columns)]

    return Hessian(
        lambda call: objective.loss_of({}, call), _Given(),
        list(objective.params.values()),
        # Batches are of the same size, so that each counts as one sample.
        [(call, torch.empty(0)) for call in objective.calls],
        check_deterministic=False, num_data=len(objective.calls),
        batch_size_fn=lambda call: 1)


def _gradient(outputs: Any, params: Sequence[Tensor],
              vector: Sequence[Tensor] | None = None) -> list[Tensor]:
    """The gradient, to be derived again, or a product with the Hessian."""
    if vector is not None:
        # Where the gradient is constant there is nothing to derive.
        pairs = [(grad, v) for grad, v in zip(outputs, vector)
                 if grad.requires_grad]
        outputs, vector = [grad for grad, _ in pairs], [v for _, v in pairs]
        if not pairs:
            return [torch.zeros_like(p) for p in params]
    grads = torch.autograd.grad(
        outputs, params, vector, create_graph=vector is None,
        retain_graph=True, allow_unused=True)
    return [torch.zeros_like(p) if grad is None else grad
            for p, grad in zip(params, grads)]


def _check_graph(grads: Sequence[Tensor]) -> None:
    """Raises autograd's error of functions that have no second derivative.

    Where the derivatives lead to parameters only past such a function,
    autograd leaves its part of them out and says nothing (torch 2.14).
    """
    seen, waiting = set(), [grad.grad_fn for grad in grads]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        if node.name().endswith('::Error'):
            raise RuntimeError('a function of it is once_differentiable')
        seen.add(node)
        waiting += [parent for parent, _ in node.next_functions]


@contextmanager
def _twice_differentiable(model: nn.Module) -> Iterator[None]:
    """Says so where autograd has no second derivatives."""
    try:
        yield
    except RuntimeError as error:
        text = str(error)
        if not any(part in text for part in (
                'is not implemented', 'differentiate twice',
                'once_differentiable', 'does not require grad')):
            raise
        raise ValueError(
            f'The loss of {type(model).__name__} cannot be differentiated '
            f'twice ({text.splitlines()[0]}): {LEAVE_OUT}.') from error


def eigenvalues(objective: Objective, number: int, seed: int,
                visited: Callable[[], Any] = _nothing
                ) -> tuple[list[float], list[Weights]]:
    """The largest eigenvalues of the Hessian, and their eigenvectors.

    By the Lanczos iteration of SciPy's eigsh.

    Args:
        objective (Objective): The loss.
        number (int): How many, at least 1.
        seed (int): Of the vector that the iteration starts from.
        visited (Callable): Called after each product of a batch. Defaults to
            nothing.

    Returns:
        tuple[list[float], list[dict]]: From the largest on; eigenvectors of
        length 1, shaped as the parameters.

    Raises:
        ValueError: If the loss has no second derivatives, there are fewer
            parameters, or the iteration does not converge.
    """
    hessian = make_hessian(objective, visited)
    size = hessian.shape[0]
    require(number < size, f'{number} eigenvalues are no fewer than the '
            f'{size} parameters: ask for fewer.')
    start = np.random.default_rng(seed).standard_normal(size)
    with _twice_differentiable(objective.model):
        try:
            values, vectors = eigsh(  # type: ignore[no-untyped-call]
                hessian.to_scipy(), number, which='LA', tol=TOLERANCE,
                v0=start)
        except ArpackNoConvergence as error:
            raise ValueError(
                f'The {number} largest eigenvalues do not converge: ask for '
                'fewer with --top, or take more samples.') from error
    order = np.argsort(values)[::-1]
    return (values[order].tolist(),
            [_shaped(vectors[:, i], objective.params) for i in order])


def _shaped(vector: NDArray[Any], params: Any) -> Weights:
    parts = torch.from_numpy(vector.copy()).split(
        [p.numel() for p in params.values()])
    return {name: part.view_as(p).to(p)
            for part, (name, p) in zip(parts, params.items())}


def estimate_trace(objective: Objective, samples: int, seed: int,
                   visited: Callable[[], Any] = _nothing
                   ) -> tuple[float, float]:
    """The trace of the Hessian by Hutchinson's estimator of curvlinops.

    Args:
        objective (Objective): The loss.
        samples (int): Random vectors, at least 2.
        seed (int): Of the vectors.
        visited (Callable): Called after each product of a batch. Defaults to
            nothing.

    Returns:
        tuple[float, float]: The estimate and its standard error.

    Raises:
        ValueError: If the loss has no second derivatives.
    """
    hessian = make_hessian(objective, visited)
    with torch.random.fork_rng(), _twice_differentiable(objective.model):
        torch.manual_seed(seed)
        found = [float(_curvlinops().hutchinson_trace(hessian, 1))
                 for _ in range(samples)]
    return statistics.fmean(found), statistics.stdev(found) / samples**0.5


# -- the loss in a ball --


def ball_maximum(objective: Objective, rho: float, steps: int,
                 visited: Callable[[], Any] = _nothing
                 ) -> dict[str, float]:
    """How much the loss grows within a distance of the weights.

    Projected gradient ascent: each step goes rho along the normalized
    gradient and back into the ball. The first one ends where SAM's
    perturbation does. The largest value on the way counts, so that it is a
    lower bound of the maximum.

    Args:
        objective (Objective): The loss L.
        rho (float): Radius of the ball, above 0.
        steps (int): Steps, at least 1.
        visited (Callable): Called after each step. Defaults to nothing.

    Returns:
        dict[str, float]: ``one_step``, L(w + rho * g / ||g||) - L(w);
        ``maximum``, the largest L(w + eps) - L(w) of all steps, and at
        least 0.
    """
    at_w = objective.weights()
    loss, gradient = objective.loss_and_gradient(at_w)
    eps = {name: torch.zeros_like(w) for name, w in at_w.items()}
    growths = []
    for _ in range(steps):
        norm = vector_norm(list(gradient.values()))
        if not 0 < float(norm) < float('inf'):
            break
        for name, part in eps.items():
            part.add_(gradient[name] * (rho / norm))
        length = vector_norm(list(eps.values()))
        if length > rho:
            for part in eps.values():
                part.mul_(rho / length)
        there, gradient = objective.loss_and_gradient(
            {name: w + eps[name] for name, w in at_w.items()})
        growths.append(there - loss)
        visited()
    return dict(one_step=growths[0] if growths else 0.,
                maximum=max(0., *growths) if growths else 0.)


def m_sharpness(parts: Sequence[Objective], rho: float, steps: int,
                visited: Callable[[], Any] = _nothing) -> dict[str, float]:
    """The mean of :func:`ball_maximum` over sub-batches.

    Args:
        parts (Sequence[Objective]): The losses of m samples each.
        rho (float): Radius of the balls.
        steps (int): Steps of the ascent.
        visited (Callable): Called after each sub-batch. Defaults to nothing.
    """
    found = []
    for part in parts:
        found.append(ball_maximum(part, rho, steps))
        visited()
    return {name: statistics.fmean(each[name] for each in found)
            for name in found[0]}
