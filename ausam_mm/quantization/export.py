"""Export to ONNX in which the quantization is visible."""

import copy
from collections import Counter
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..checks import require
from ..internals import flatten
from .layers import LSQLayer, step_shape
from .lsq import LSQuantizer

DOMAIN = 'ausam_mm'
# The first with 4-bit integers.
OPSET = 21


def export_onnx(model: nn.Module,
                path: str | Path,
                inputs: Tensor,
                *others: Any,
                int4: bool = True,
                dynamic_batch: bool = True) -> None:
    """Writes a model to an ONNX file, in eval mode and single precision.

    Each quantized weight is stored as its integers, followed by
    DequantizeLinear; each quantized input passes QuantizeLinear and
    DequantizeLinear. Values of 2 to 4 bits are of type (u)int4, those of 5 to
    8 bits of (u)int8. Where the type of an input holds more integers than the
    quantizer has, a Clip to the smallest and the largest of them comes first.
    All this computes what the model computes: ONNX divides by the step size,
    rounds half to even and saturates, as the quantizer does.

    Biases are added by nodes of their own. Those of a Conv or Gemm between
    two quantized tensors would be rounded by onnxruntime to multiples of the
    product of both step sizes, which is coarse where bits are few.

    Layers in float stay so, and a model without quantized layers is exported
    as it is. The input is what the model's data preprocessor returns.

    Args:
        model (nn.Module): The model; it stays as it is.
        path (str | Path): The file.
        inputs (Tensor): A batch, such as images of shape (b, 3, H, W).
        *others: What else the model is called with: mmpose's want a None for
            their data samples.
        int4 (bool): Whether there may be 4-bit types. Without, all are of 8
            bits, for runtimes that know no others. Defaults to True.
        dynamic_batch (bool): Whether the file takes batches of any size.
            Defaults to True.

    Raises:
        ImportError: If a package is missing.
        ValueError: If a quantizer has no step size yet.
    """
    onnx = _needed('onnx')
    _needed('onnxscript')
    if not hasattr(torch.onnx, 'ops'):
        raise ImportError(
            f'PyTorch {torch.__version__} cannot export quantized models: '
            'install 2.8 or later.')
    model = copy.deepcopy(model).cpu().float()
    model.eval()  # which returns None for backbones of mmpretrain
    inputs = inputs.detach().cpu().float()
    if dynamic_batch and len(inputs) == 1:
        # The exporter takes a batch of 1 for a constant.
        inputs = torch.cat((inputs, inputs))
    with torch.no_grad():
        number = len(_tensors(model(inputs, *others)))
    quantizers = _mark(model)
    program: Any = torch.onnx.export(
        _Call(model, others).eval(), (inputs, ), dynamo=True, verbose=False,
        opset_version=OPSET, input_names=['input'],
        output_names=['output'] if number == 1 else [
            f'output_{i}' for i in range(number)],
        dynamic_shapes=dict(inputs={0: 'batch'}) if dynamic_batch else None)
    proto: Any = program.model_proto
    _insert(proto.graph, quantizers, int4)
    kept = [entry for entry in proto.opset_import if entry.domain != DOMAIN]
    del proto.opset_import[:]
    proto.opset_import.extend(kept)
    onnx.checker.check_model(proto)
    onnx.save(proto, str(path))


@dataclass
class Agreement:
    """How an ONNX file's outputs on a batch compare with the model's.

    Attributes:
        largest (float): Largest difference of an element.
        mean (float): Mean difference.
        own (float): Mean difference of the model itself between single and
            double precision: what rounding explains. A sum that another order
            of its terms moves across the middle between two integers, moves
            by a whole step.
        size (float): Mean size of the model's outputs.
        same_argmax (float): Ratio of equal predictions: of classes, and of
            positions on axes and in heatmaps. Where the model has the same
            value twice, up to rounding, either is right.
    """
    largest: float
    mean: float
    own: float
    size: float
    same_argmax: float

    @property
    def explained(self) -> bool:
        """Whether rounding explains the differences."""
        return self.mean <= self.limit

    @property
    def limit(self) -> float:
        """The mean difference that rounding explains."""
        return 4 * self.own + 1e-3 * self.size


def compare_onnx(model: nn.Module, path: str | Path, inputs: Tensor,
                 *others: Any) -> Agreement:
    """Runs an ONNX file in onnxruntime against its model.

    onnxruntime runs on the CPU, with all optimizations that it does itself.

    Args:
        model (nn.Module): The model; it stays as it is.
        path (str | Path): The file.
        inputs (Tensor): A batch, as in :func:`export_onnx`.
        *others: What else the model is called with.

    Raises:
        ImportError: If a package is missing.
    """
    runtime = _needed('onnxruntime')
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    session = runtime.InferenceSession(
        str(path), options, providers=['CPUExecutionProvider'])
    inputs = inputs.detach().cpu().float()
    theirs = [torch.from_numpy(array).double() for array in session.run(
        None, {'input': inputs.numpy()})]
    ours, exact = (
        [tensor.double() for tensor in _run(model, inputs.to(dtype), others)]
        for dtype in (torch.float32, torch.float64))
    difference = torch.cat(
        [(a - b).abs().flatten() for a, b in zip(ours, theirs)])
    own = torch.cat([(a - b).abs().flatten() for a, b in zip(ours, exact)])
    same = torch.cat([_same_argmax(a, b).flatten()
                      for a, b in zip(ours, theirs)])
    return Agreement(
        largest=float(difference.max()), mean=float(difference.mean()),
        own=float(own.mean()),
        size=float(torch.cat([a.abs().flatten() for a in ours]).mean()),
        same_argmax=float(same.double().mean()))


@torch.no_grad()
def _run(model: nn.Module, inputs: Tensor,
         others: tuple[Any, ...]) -> list[Tensor]:
    model = copy.deepcopy(model).cpu().to(inputs.dtype)
    model.eval()
    return _tensors(model(inputs, *others))


def _tensors(outputs: Any) -> list[Tensor]:
    return [leaf for leaf in flatten(outputs)[0] if isinstance(leaf, Tensor)]


def _same_argmax(ours: Tensor, theirs: Tensor) -> Tensor:
    """Of classes (b, c), axes (b, k, w) or heatmaps (b, k, h, w)."""
    if ours.dim() > 3:
        ours, theirs = ours.flatten(2), theirs.flatten(2)
    ours_there = ours.gather(-1, theirs.argmax(-1, keepdim=True))[..., 0]
    return ours_there >= ours.amax(-1) - 1e-6 * ours.abs().amax(-1)


def _needed(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise ImportError(
            f'{name} is missing: export to ONNX needs pip install '
            '"onnx>=1.19" onnxruntime onnxscript.') from error


class _Call(nn.Module):
    """The model as a function of its inputs alone."""

    def __init__(self, model: nn.Module, others: tuple[Any, ...]) -> None:
        super().__init__()
        self.model, self.others = model, others

    def forward(self, inputs: Tensor) -> Any:
        return self.model(inputs, *self.others)


class _Marker(nn.Module):
    """Stands for a quantizer, as a node of a domain of its own.

    The exporter has neither 4-bit tensors nor integers for weights: the nodes
    that it writes are replaced afterwards.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def forward(self, x: Tensor) -> Tensor:
        return torch.onnx.ops.symbolic(
            f'{DOMAIN}::Quantizer', (x, ), attrs=dict(name=self.name),
            dtype=x.dtype, shape=x.shape, version=1)


def _mark(model: nn.Module) -> dict[str, tuple[Any, LSQuantizer]]:
    """Replaces the quantizers; layer and quantizer by the marker's name."""
    found = {}
    for path, layer in model.named_modules():
        if not isinstance(layer, LSQLayer):
            continue
        for kind in ('weight_quantizer', 'input_quantizer'):
            name, quantizer = f'{path}.{kind}', getattr(layer, kind)
            require(
                quantizer.ready, f'{name} has no step size: load a checkpoint '
                'of the quantized model, or run a batch in training mode '
                'first.')
            found[name] = layer, quantizer
    for name in found:
        path, _, kind = name.rpartition('.')
        setattr(model.get_submodule(path), kind, _Marker(name))
    return found


def _insert(graph: Any, quantizers: dict[str, tuple[Any, LSQuantizer]],
            int4: bool) -> None:
    """Writes the quantizers' nodes where the markers are."""
    nodes: list[Any] = []
    written = set()
    weights = set()  # values that are quantized weights
    renamed: dict[str, str] = {}
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        # Stack traces, with paths of the machine.
        del node.metadata_props[:]
        node.input[:] = [renamed.get(name, name) for name in node.input]
        if node.domain == DOMAIN:
            name = node.attribute[0].s.decode()
            make: Any = _input
            if name.endswith('weight_quantizer'):
                make = _weight
                weights.update(node.output)
            new, added = make(node, name, *quantizers[name], int4)
            nodes += new
            if name not in written:  # a layer may be called more than once
                graph.initializer.extend(added)
                written.add(name)
        elif node.op_type == 'Reshape' and node.input[0] in weights:
            # The weight of a ConvTranspose2d, which is stored in its shape.
            renamed[node.output[0]] = node.input[0]
        elif len(node.input) == 3 and node.input[1] in weights and \
                node.input[2] in tensors:
            nodes += _bias_apart(node, tensors[node.input[2]])
        else:
            nodes.append(node)
    # What made the float weights is not used any more.
    used = Counter(value.name for value in graph.output)
    kept = []
    for node in reversed(nodes):
        if any(used[name] for name in node.output):
            kept.append(node)
            used.update(node.input)
    del graph.node[:]
    graph.node.extend(reversed(kept))
    stored = [tensor for tensor in graph.initializer if used[tensor.name]]
    del graph.initializer[:]
    graph.initializer.extend(stored)
    # Of values that may be gone.
    del graph.value_info[:]
    for value in (*graph.input, *graph.output):
        del value.metadata_props[:]


def _bias_apart(node: Any, bias: Any) -> list[Any]:
    """A Conv, ConvTranspose or Gemm without its bias, and its addition."""
    from onnx import helper
    output, inputs = node.output[0], node.input[:2]
    if node.op_type != 'Gemm' and len(bias.dims) == 1:
        bias.dims.extend((1, 1))
    name = f'{output}.before_bias'
    node.input[:], node.output[:] = inputs, [name]
    return [node, helper.make_node('Add', [name, bias.name], [output])]


def _type(quantizer: LSQuantizer, bits: int) -> Any:
    """The type of a quantizer's integers, of 4 or 8 bits."""
    package = import_module('ml_dtypes' if bits == 4 else 'numpy')
    return getattr(package, f'{"" if quantizer.signed else "u"}int{bits}')


def _tensor(name: str, values: Tensor, dtype: Any) -> Any:
    from onnx import numpy_helper
    return numpy_helper.from_array(
        values.detach().float().numpy().astype(dtype), name)


def _weight(node: Any, name: str, layer: Any, quantizer: LSQuantizer,
            int4: bool) -> tuple[list[Any], list[Any]]:
    """Nodes and tensors of a weight."""
    from onnx import helper
    weight = layer.weight
    if quantizer.step.dim():
        shape = step_shape(layer)
        codes = quantizer.codes(weight.view(
            *shape[:1], -1, *weight.shape[1:]) if len(shape) == 5 else weight)
    else:
        codes = quantizer.codes(weight)
    step, settings = _along_axis(layer, quantizer.step)
    dtype = _type(quantizer, 4 if int4 and quantizer.bits <= 4 else 8)
    tensors = [
        _tensor(f'{name}.codes', codes.view_as(weight), dtype),
        _tensor(f'{name}.step', step, 'float32'),
        _tensor(f'{name}.zero', torch.zeros(step.shape), dtype)]
    return [helper.make_node(
        'DequantizeLinear', [tensor.name for tensor in tensors], node.output,
        name, **settings)], tensors


def _along_axis(layer: nn.Module,
                step: Tensor) -> tuple[Tensor, dict[str, Any]]:
    """Step sizes of a weight in ONNX's shape, and the attributes for it."""
    if not step.dim():
        return step, {}
    if not isinstance(layer, nn.ConvTranspose2d):
        return step.flatten(), dict(axis=0)
    if layer.groups == 1:
        return step.flatten(), dict(axis=1)
    # A step size for each pair of group and output: blocks of inputs.
    return (step[:, 0].expand(-1, -1, *layer.kernel_size).contiguous(),
            dict(axis=0, block_size=layer.in_channels // layer.groups))


def _input(node: Any, name: str, layer: nn.Module, quantizer: LSQuantizer,
           int4: bool) -> tuple[list[Any], list[Any]]:
    """Nodes and tensors of a layer's input."""
    from onnx import helper
    # onnxruntime cannot load a Clip before 4-bit integers.
    bits = 4 if int4 and quantizer.bits == 4 else 8
    dtype, step = _type(quantizer, bits), quantizer.step
    source, nodes = node.input[0], []
    scale = [_tensor(f'{name}.step', step, 'float32'),
             _tensor(f'{name}.zero', torch.zeros(()), dtype)]
    tensors = list(scale)
    names = [tensor.name for tensor in scale]
    # Layers that are called more than once have several values.
    value = node.output[0]
    if bits > quantizer.bits:
        bounds = [_tensor(f'{name}.{end}', step * bound, 'float32')
                  for end, bound in zip(('low', 'high'), quantizer.bounds)]
        tensors += bounds
        nodes.append(helper.make_node(
            'Clip', [source, *(bound.name for bound in bounds)],
            [f'{value}.clipped']))
        source = f'{value}.clipped'
    nodes += [
        helper.make_node('QuantizeLinear', [source, *names],
                         [f'{value}.codes']),
        helper.make_node('DequantizeLinear', [f'{value}.codes', *names],
                         node.output)]
    return nodes, tensors
