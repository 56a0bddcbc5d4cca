"""Layers that quantize their weight and their input."""

from functools import cache
from typing import Any, SupportsIndex

import torch.nn.functional as F
from torch import Tensor, nn

from ..checks import require
from ..internals import is_attention_projection, output_padding
from .lsq import LSQuantizer


class LSQLayer:
    """What quantized layers have in common.

    A layer becomes one in place, by getting a class that inherits from its
    own: it keeps its identity, its hooks, and the names of its parameters, so
    that checkpoints of the float model load, and ``isinstance`` and
    initialization by layer type see what they saw before.

    Attributes:
        weight_quantizer (LSQuantizer): Quantizes the weight.
        input_quantizer (LSQuantizer): Quantizes the input. The bias stays in
            float.
    """

    weight_quantizer: LSQuantizer
    input_quantizer: LSQuantizer

    def __reduce_ex__(self, protocol: SupportsIndex) -> tuple[Any, ...]:
        # Its class is made on demand, where pickle does not find it.
        return _empty, (type(self).__bases__[1], ), vars(self)


class _Conv2d(LSQLayer):
    """Conv2d's forward calls _conv_forward (torch 2.14)."""

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        output = super().forward(*args, **kwargs)
        if self.weight_quantizer.training and \
                not self.weight_quantizer.ready:
            raise RuntimeError(
                f'{type(self).__bases__[1].__name__} computes its convolution '
                'in a way of its own that cannot be quantized: put the layer '
                "into LSQModel's skip.")
        return output

    def _conv_forward(self, input: Tensor, weight: Tensor,
                      bias: Tensor | None) -> Tensor:
        return super()._conv_forward(
            self.input_quantizer(input), self.weight_quantizer(weight), bias)


class _PaddingConv2d(LSQLayer):

    def forward(self, input: Tensor) -> Tensor:
        # An attribute of the object hides the parameter of that name.
        vars(self)['weight'] = self.weight_quantizer(self.weight)
        try:
            return super().forward(self.input_quantizer(input))
        finally:
            del vars(self)['weight']


class _ConvTranspose2d(LSQLayer):

    def forward(self, input: Tensor,
                output_size: list[int] | None = None) -> Tensor:
        padding = output_padding(self, input, output_size)
        return F.conv_transpose2d(
            self.input_quantizer(input), quantized_weight(self), self.bias,
            self.stride, self.padding, padding, self.groups, self.dilation)


class _Linear(LSQLayer):

    def forward(self, input: Tensor) -> Tensor:
        return F.linear(
            self.input_quantizer(input), self.weight_quantizer(self.weight),
            self.bias)


_KINDS = {
    nn.Conv2d: _Conv2d,
    nn.ConvTranspose2d: _ConvTranspose2d,
    nn.Linear: _Linear,
}

# Classes of mmcv and timm that pad, and convolve with their weight as it is.
_PADDING = ('Conv2dAdaptivePadding', 'Conv2dSame')


def kind_of(module: Any) -> type | None:
    """The torch layer as which a module can be quantized.

    Subclasses of Linear and ConvTranspose2d that compute their output
    themselves cannot. (Those of Conv2d say so in their first pass, since
    many only prepare the input.) Neither can what the module around it never
    calls, which is the output projection of nn.MultiheadAttention.

    Returns:
        type, optional: nn.Conv2d, nn.ConvTranspose2d, nn.Linear, or None.
    """
    for kind in _KINDS:
        if not isinstance(module, kind):
            continue
        own = type(module)
        if is_attention_projection(module):
            return None
        # mmcv's wrappers are there for empty batches in PyTorch before 1.5.
        if kind is nn.Conv2d or own.forward is kind.forward or \
                own.__module__ == 'mmcv.cnn.bricks.wrappers' or \
                issubclass(own, LSQLayer):
            return kind
    return None


@cache
def _quantized(own: Any, kind: Any) -> Any:
    # MMEngine's initialization knows layers by the names of their class and
    # of its direct bases: those of the original class stay among them.
    mixin = _PaddingConv2d if own.__name__ in _PADDING else _KINDS[kind]
    return type(f'LSQ{own.__name__}', (mixin, own, *own.__bases__),
                dict(__module__=__name__, __doc__=own.__doc__))


def _empty(own: type) -> Any:
    kind = next(kind for kind in _KINDS if issubclass(own, kind))
    quantized = _quantized(own, kind)
    return quantized.__new__(quantized)


def quantize_layer(module: Any, w_bits: int, a_bits: int,
                   a_signed: bool | None = None, per_channel: bool = False,
                   perturbed: bool = False) -> None:
    """Makes a layer quantize its weight and its input, in place.

    Args:
        module (nn.Module): A layer of which :func:`kind_of` knows the kind.
        w_bits (int): Bits of the weight, 2 to 8.
        a_bits (int): Bits of the input, 2 to 8.
        a_signed (bool, optional): Whether the input may be negative. Defaults
            to None: decided by the first batch.
        per_channel (bool): Whether each output channel of the weight has a
            step size of its own. Defaults to False.
        perturbed (bool): Whether SAM perturbs the step sizes. Defaults
            to False.

    Raises:
        ValueError: If the layer cannot be quantized, or is so already.
    """
    name = type(module).__name__
    require(not isinstance(module, LSQLayer),
            f'{name} is quantized already: quantize a model only once.')
    kind = kind_of(module)
    require(
        kind is not None, f'{name} cannot be quantized: only Conv2d, '
        'ConvTranspose2d and Linear can.')
    shape = step_shape(module) if per_channel else ()
    module.weight_quantizer = LSQuantizer(
        w_bits, signed=True, step_shape=shape, perturbed=perturbed)
    module.input_quantizer = LSQuantizer(
        a_bits, signed=a_signed, activation=True, perturbed=perturbed)
    for quantizer in (module.weight_quantizer, module.input_quantizer):
        quantizer.to(module.weight)
        quantizer.train(module.training)
        # What was frozen before stays so as a whole.
        quantizer.requires_grad_(module.weight.requires_grad)
    own: Any = type(module)
    module.__class__ = _quantized(own, kind)


def step_shape(module: Any) -> tuple[int, ...]:
    """Shape of one step size for each output channel of a layer.

    Args:
        module (nn.Module): A Conv2d, ConvTranspose2d or Linear.

    Returns:
        tuple[int]: It broadcasts to :func:`weight_by_channel`.
    """
    if isinstance(module, nn.ConvTranspose2d):
        return (module.groups, 1, module.out_channels // module.groups, 1, 1)
    return (len(module.weight), *(1 for _ in module.weight.shape[1:]))


def weight_by_channel(module: Any) -> Tensor:
    """A view of a weight in which output channels have dimensions alone.

    Args:
        module (nn.Module): A Conv2d, ConvTranspose2d or Linear.

    Returns:
        Tensor: The weight; of a ConvTranspose2d of shape (groups,
        inputs / groups, outputs / groups, height, width).
    """
    if isinstance(module, nn.ConvTranspose2d):
        return module.weight.unflatten(0, (module.groups, -1))
    return module.weight


def quantized_weight(module: Any) -> Tensor:
    """The weight as a quantized layer uses it."""
    return module.weight_quantizer(
        weight_by_channel(module)).view_as(module.weight)
