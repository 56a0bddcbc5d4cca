"""BatchNorm folded into the layers before it, for export."""

import copy
from collections import Counter

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._pytree import tree_leaves

from .layers import LSQLayer, kind_of, step_shape, weight_by_channel
from .lsq import LSQuantizer, bounds_of_step_size


def fold_batchnorm(model: nn.Module, inputs: Tensor, *others) -> nn.Module:
    """A copy in eval mode with BatchNorm folded into the layers before it.

    Which layer feeds which BatchNorm, and nothing else, is read from the
    autograd graph of a forward pass, not guessed from names: an order of
    norm, activation and convolution stays as it is.

    A quantised layer is folded after its quantisation. BatchNorm multiplies
    each output channel by a factor k, and k * (s * integer) is (k * s) *
    integer: the integers stay, the weight gets one step size for each channel
    whatever it had before, and becomes its quantised value. A BatchNorm with
    a negative factor turns the signs of that channel's integers. Where -Q_n
    is among them, which has no counterpart, it stays unfolded.

    Args:
        model (nn.Module): The model, whose call with a batch in eval mode
            computes its output.
        inputs (Tensor): A batch, such as images of shape (1, 3, H, W).
        *others: What else the model is called with: mmpose's want a None for
            their data samples.

    Returns:
        nn.Module: The copy, in which nn.Identity stands for what was folded.
    """
    model = copy.deepcopy(model)
    model.eval()  # which returns None for backbones of mmpretrain
    pairs = _pairs(model, inputs, *others)
    names = {module: name for name, module in model.named_modules()}
    for norm, layer in pairs.items():
        if _fold(layer, norm):
            parent, _, name = names[norm].rpartition('.')
            setattr(model.get_submodule(parent), name, nn.Identity())
    return model


def _pairs(model: nn.Module, inputs: Tensor,
           *others) -> dict[nn.Module, nn.Module]:
    """Layers by the BatchNorm that is the only one to see their output."""
    calls: Counter = Counter()
    source: dict[nn.Module, torch.autograd.graph.Node] = {}
    result: dict[nn.Module, torch.autograd.graph.Node] = {}

    def after(module, args, output):
        calls[module] += 1
        source[module], result[module] = args[0].grad_fn, output.grad_fn

    # Subclasses may do more, such as an activation.
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and
             type(m).forward in (_BatchNorm.forward, nn.SyncBatchNorm.forward)
             and m.running_mean is not None]
    layers = [m for m in model.modules() if kind_of(m)]
    handles = [m.register_forward_hook(after) for m in norms + layers]
    try:
        with torch.enable_grad():
            outputs = model(inputs.detach().clone().requires_grad_(), *others)
    finally:
        for handle in handles:
            handle.remove()
    readers = _readers([leaf.grad_fn for leaf in tree_leaves(outputs)
                        if isinstance(leaf, Tensor)])
    by_node = {result[layer]: layer for layer in layers if calls[layer] == 1}
    return {
        norm: by_node[source[norm]] for norm in norms
        if calls[norm] == 1 and source[norm] in by_node
        and readers[source[norm]] == 1
    }


def _readers(roots: list) -> Counter:
    """How often the result of each node of a graph is used."""
    count: Counter = Counter()
    waiting, seen = [], set()
    edges = roots
    while True:
        for node in edges:
            if node is None:
                continue
            count[node] += 1
            if node not in seen:
                seen.add(node)
                waiting.append(node)
        if not waiting:
            return count
        edges = [node for node, _ in waiting.pop().next_functions]


@torch.no_grad()
def _fold(layer: nn.Module, norm: nn.Module) -> bool:
    """Changes weight and bias of a layer; False if that is impossible."""
    factor = (norm.running_var + norm.eps).rsqrt()
    shift = -norm.running_mean * factor
    if norm.affine:
        factor, shift = factor * norm.weight, shift * norm.weight + norm.bias
    by_channel = factor.view(step_shape(layer))
    weight = weight_by_channel(layer)
    if isinstance(layer, LSQLayer) and layer.weight_quantizer.ready:
        old = layer.weight_quantizer
        codes = old.codes(weight)
        if bool(((codes == old.bounds[0]) & (by_channel < 0)).any()):
            return False
        weight = old.step * codes
        step = (by_channel * old.step).abs()
        step = torch.where(by_channel == 0, torch.ones_like(step), step)
        layer.weight_quantizer = new = LSQuantizer(
            old.bits, signed=True, step_shape=step.shape).to(weight).eval()
        new.initialise_with(
            step.clamp(*bounds_of_step_size(step.dtype)), signed=True)
        new.requires_grad_(old.step.requires_grad)
    layer.weight.copy_((weight * by_channel).view_as(layer.weight))
    bias = shift if layer.bias is None else shift + factor * layer.bias
    layer.bias = nn.Parameter(bias.to(layer.weight))
    return True


def unfolded(model: nn.Module) -> list[str]:
    """Names of the BatchNorms that are left in a model.

    Args:
        model (nn.Module): What :func:`fold_batchnorm` returned.

    Returns:
        list[str]: The names.
    """
    return [name for name, module in model.named_modules()
            if isinstance(module, _BatchNorm)]
