"""Quantization-aware training of any model, by config."""

import logging
import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

from mmengine.logging import print_log
from mmengine.registry import MODELS
from torch import nn

from ..checks import require
from .layers import kind_of, quantize_layer


@MODELS.register_module()
def LSQModel(architecture: dict[str, Any],  # noqa: N802, a registered name
             w_bits: int = 4,
             a_bits: int = 4,
             skip: Sequence[str] = (),
             first_last_bits: int | None = 8,
             per_channel: bool = False,
             perturb_step_sizes: bool = False,
             data_preprocessor: dict[str, Any] | None = None) -> nn.Module:
    """Builds a model whose layers are quantized by LSQ.

    What is returned is the architecture itself, only with other layers in it
    (see :class:`LSQLayer`). So everything that knows the model, from its loss
    to test-time augmentation, works as before, and a checkpoint of the float
    model loads by ``load_from`` under the same keys. That is where the paper
    starts its training from.

    Args:
        architecture (dict): Config of the model, such as an ImageClassifier
            or a TopdownPoseEstimator.
        w_bits (int): Bits of the weights, 2 to 8. Defaults to 4.
        a_bits (int): Bits of the inputs of the layers, 2 to 8. Defaults to
            4.
        skip (Sequence[str]): Layers that stay in float: names of layers or of
            the modules around them, or patterns of layers' names as of fnmatch
            (``'backbone.*.downsample.*'``) or as regular expressions. Defaults
            to ().
        first_last_bits (int, optional): Bits of weights and inputs in the
            first and the last layers, or None to leave those in float.
            Defaults to 8.
        per_channel (bool): Whether each output channel of a weight has a step
            size of its own. Defaults to False, as in the paper.
        perturb_step_sizes (bool): Whether SAM perturbs the step sizes,
            too. Defaults to False.
        data_preprocessor (dict, optional): The architecture's, if it has none
            itself. The Runner puts its own here. Defaults to None.

    Returns:
        nn.Module: The architecture.

    Raises:
        ValueError: For bits out of range, or a pattern that matches no layer.

    Examples:
        >>> model = dict(
        ...     type='LSQModel',
        ...     architecture=dict(
        ...         type='ImageClassifier',
        ...         backbone=dict(type='ResNet_CIFAR', depth=18),
        ...         neck=dict(type='GlobalAveragePooling'),
        ...         head=dict(type='LinearClsHead', num_classes=10,
        ...                   in_channels=512)),
        ...     w_bits=4, a_bits=4)
        >>> load_from = 'float_model.pth'
    """
    architecture = architecture.copy()
    if data_preprocessor is not None:
        architecture.setdefault('data_preprocessor', data_preprocessor)
    model: nn.Module = MODELS.build(architecture)
    quantize_model(model, w_bits, a_bits, skip, first_last_bits, per_channel,
                   perturb_step_sizes)
    return model


def quantize_model(model: nn.Module,
                   w_bits: int = 4,
                   a_bits: int = 4,
                   skip: Sequence[str] = (),
                   first_last_bits: int | None = 8,
                   per_channel: bool = False,
                   perturb_step_sizes: bool = False) -> dict[str, list[str]]:
    """Makes the layers of a model quantize weights and inputs, in place.

    The first layer, whose input is the image, is the one that the model
    registers first, with others of as few input channels (the branches of
    RepVGG); their input is signed. The last layers are the one that it
    registers last, and those beside it in the same module that are alike in
    type and input channels (SimCC's heads for x and y), if they are not
    numbered, as layers are that follow each other.

    Args:
        model (nn.Module): Any model.
        w_bits (int): See :func:`LSQModel`, as for the others.
        a_bits (int): Bits of what goes into the layers.
        skip (Sequence[str]): Layers that stay in float.
        first_last_bits (int, optional): Bits in the first and last layers.
        per_channel (bool): Whether each output channel has a step size.
        perturb_step_sizes (bool): Whether SAM perturbs the step sizes.

    Returns:
        dict[str, list[str]]: Names of the layers: 'quantized', 'first',
        'last' (of them, at ``first_last_bits``), and 'float'.

    Raises:
        ValueError: For bits out of range, or a pattern that matches no layer.
    """
    layers = {name: module for name, module in model.named_modules()
              if kind_of(module)}
    require(
        bool(layers), f'{type(model).__name__} has no layer to quantize: '
        'give LSQModel a model of Conv2d, ConvTranspose2d or Linear.')
    skipped = _matching(list(layers), skip)
    first, last = _first(layers), _last(model, layers)
    report: dict[str, list[str]] = dict(
        quantized=[], first=[], last=[], float=[])
    for name, layer in layers.items():
        edge = 'first' if name in first else 'last' if name in last else None
        if name in skipped or edge and first_last_bits is None:
            report['float'].append(name)
            continue
        weight, activation = w_bits, a_bits
        if edge and first_last_bits is not None:
            weight = activation = first_last_bits
        quantize_layer(
            layer, weight, activation, True if edge == 'first' else None,
            per_channel, perturb_step_sizes)
        report[edge or 'quantized'].append(name)
    print_log(
        f'LSQ: {len(report["quantized"])} layers with {w_bits}-bit weights '
        f'and {a_bits}-bit inputs; with {first_last_bits} bits: '
        f'{_listed(report["first"] + report["last"])}; in float: '
        f'{_listed(report["float"])}.', 'current', logging.INFO)
    return report


def _listed(names: list[str]) -> str:
    return ', '.join(names) or 'none'


def _first(layers: dict[str, nn.Module]) -> list[str]:
    """The layer that comes first, and others that take an image, too."""
    name, layer = next(iter(layers.items()))
    return [name] + [
        other for other, module in layers.items()
        if other != name and _inputs(module) == _inputs(layer) <= 3
    ]


def _last(model: nn.Module, layers: dict[str, nn.Module]) -> list[str]:
    """The layer that comes last, and its equals in the same module."""
    name, layer = list(layers.items())[-1]
    path = name.rpartition('.')[0]
    parent = model.get_submodule(path)
    if isinstance(parent, nn.Sequential) or name[-1].isdigit():
        return [name]
    return [
        other for other, module in layers.items()
        if other.rpartition('.')[0] == path and not other[-1].isdigit()
        and kind_of(module) is kind_of(layer)
        and _inputs(module) == _inputs(layer)
    ]


def _inputs(layer: Any) -> int:
    return int(layer.in_features if isinstance(
        layer, nn.Linear) else layer.in_channels)


def _matching(names: list[str], patterns: Sequence[str]) -> list[str]:
    """The names that match any pattern, each of which must match one."""
    require(not isinstance(patterns, str),
            f'skip={patterns!r} is one string: put it into a list.')
    found = []
    for pattern in patterns:
        matches = [name for name in names if _matches(name, pattern)]
        require(
            bool(matches), f'skip={pattern!r} matches no layer: choose from '
            f'names such as {_listed(_examples(names))}.')
        found += matches
    return found


def _examples(names: list[str]) -> list[str]:
    """Some names from the whole of a model."""
    return names[::max(1, len(names) // 4)][:4] + names[-1:]


def _matches(name: str, pattern: str) -> bool:
    if name == pattern or name.startswith(f'{pattern}.') or \
            fnmatchcase(name, pattern):
        return True
    try:
        return re.fullmatch(pattern, name) is not None
    except re.error:  # such as '*.conv1'
        return False
