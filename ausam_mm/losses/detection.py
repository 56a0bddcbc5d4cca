"""The losses of a detector's head, one image at a time.

A head flattens the anchors of all images, and divides by numbers of the
batch. So the head itself is called with one image at a time, and divides by
the numbers of the batch (:mod:`.divisors`): the sum over the images is the
loss of the batch.

A part of a batch is divided by the numbers of the full batch, too. Those of
the images that are left out are found by calling the head with their boxes
and made-up predictions, which do not change them.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import torch
from mmengine.structures import InstanceData
from torch import Tensor, nn

from ..checks import require, require_choice
from .divisors import MEANS, TARGETS, Divisors
from .record import PassRecord
from .rules import Rule, add_rule, class_with_rule

# What makes a head's losses, and has to be as in the class with a rule.
LOSS_METHOD = 'loss_by_feat'
_METHODS = (LOSS_METHOD, 'loss_by_feat_single', 'get_targets')
_OF_IMAGES = ('batch_gt_instances', 'batch_img_metas',
              'batch_gt_instances_ignore')


def register_detection_head(*heads: type | str, numbers_from: str) -> None:
    """Registers heads of mmdet whose losses are to be split into images'.

    A head's ``loss_by_feat`` must be a sum over images, but for numbers by
    which it divides. These must be sums over images, too, which the boxes
    tell and the predictions do not change. Subclasses that compute losses
    themselves have to be registered by themselves.

    Args:
        *heads (type | str): The classes, or ``'package.ClassName'``, as for
            :func:`ausam_mm.register_per_sample_loss`.
        numbers_from (str): Where the numbers come from: 'get_targets' for the
            numbers in what this method returns, 'reduce_mean' for what is
            averaged over processes by this function.
    """
    require_choice('numbers_from', numbers_from, TARGETS, MEANS)
    add_rule(Rule(_losses_of_images, numbers_from=numbers_from), *heads)


def _losses_of_images(module: Any, call: HeadCall, name: str) -> Tensor:
    return call.losses(name)


@dataclass
class HeadCall:
    """A call of a head's ``loss_by_feat``.

    Attributes:
        run (Callable): Calls it, with arguments by name and Divisors; returns
            its losses by name.
        arguments (dict[str, Any]): Its arguments.
        num_samples (int): Images of the call, k.
        batch_size (int): Images of the full batch, b.
        divisors (Divisors): By what it divides.
        output (dict[str, Any]): What it returned, with the mean of its
            images' losses under the name of each loss.
    """
    run: Callable[[dict[str, Any], Divisors], dict[str, Any]]
    arguments: dict[str, Any]
    num_samples: int
    batch_size: int
    divisors: Divisors
    output: dict[str, Any] = field(default_factory=dict)
    _losses: dict[bool, dict[str, Tensor]] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """The names of the losses."""
        return [name for name in self.output if 'loss' in name]

    def losses(self, name: str) -> Tensor:
        """b times what each image adds to a loss of the full batch.

        Args:
            name (str): One of ``names``.

        Returns:
            Tensor: Shape (k, ), with a graph if gradients are enabled.
        """
        enabled = torch.is_grad_enabled()
        if enabled not in self._losses:
            alone = [self.run(part_of(self.arguments, i),
                              self.divisors.as_given())
                     for i in range(self.num_samples)]
            self._losses[enabled] = {
                each: self.batch_size * torch.stack(
                    [losses[each] for losses in alone])
                for each in self.names}
        return self._losses[enabled][name]


class HeadLosses:
    """Calls a head's ``loss_by_feat`` as passes need it.

    Args:
        head (nn.Module): The head.
        model (nn.Module): The model that it is of.
        source (str): Where the numbers come from by which it divides, see
            :func:`register_detection_head`.

    Raises:
        ValueError: If it computes its losses otherwise than the class that is
            registered.
    """

    def __init__(self, head: nn.Module, model: nn.Module,
                 source: str) -> None:
        registered = class_with_rule(head)
        for name in _METHODS:
            require(
                getattr(type(head), name, None) is getattr(
                    registered, name, None),
                f'its `{name}` is not that of {registered.__name__}')
        self.head: Any = head
        self.model = model
        self.source = source
        self._signature = _signature(head)
        self._judged: tuple[Divisors, int] = Divisors(), 0
        # Of the images in batches of the data loader.
        self._numbers: WeakKeyDictionary[Any, list[Tensor]] = \
            WeakKeyDictionary()

    def call(self, method: Callable[..., dict[str, Any]],
             args: tuple[Any, ...], kwargs: dict[str, Any],
             record: PassRecord) -> HeadCall:
        """Calls it for a pass.

        Args:
            method (Callable): ``head.loss_by_feat``.
            args (tuple): What it is called with.
            kwargs (dict): What it is called with by name.
            record (PassRecord): The record of the pass.

        Raises:
            ValueError: If the batch of the data loader does not tell by what
                a part of it is to be divided.
        """
        arguments = dict(self._signature.bind(
            self.head, *args, **kwargs).arguments)
        arguments.pop('self')

        def run(arguments: dict[str, Any],
                divisors: Divisors) -> dict[str, Any]:
            try:
                with divisors.applied(self.head, self.source):
                    return summed(method(**arguments))
            except IndexError as error:
                raise ValueError(
                    'on one image it divides another number of times than '
                    'on a batch') from error

        size, number = record.batch_size, record.num_samples
        positions = record.positions
        divisors = Divisors(local=record.aside)
        expected: list[list[Tensor]] = []
        if record.to_judge and positions is not None:
            # Comparable: divided by what divides the batch that it is of.
            full, size = self._judged
            divisors = full.as_given()
        elif record.batch is not None and (number < size or record.to_judge):
            expected = self._expected(run, arguments, record)
        if number < size and expected:
            divisors.numbers = _total(expected)
        call = HeadCall(run, arguments, number, size, divisors)
        call.output = run(arguments, divisors)
        if expected:
            seen = expected if positions is None else [
                expected[i] for i in positions.tolist()]
            self._check(divisors.own, _total(seen))
        if number < size:
            for name in call.names:
                call.output[name] = call.output[name] * (size / number)
        if record.to_judge and positions is None:
            self._judged = divisors, size
        return call

    def _expected(self, run: Callable[..., Any], arguments: dict[str, Any],
                  record: PassRecord) -> list[list[Tensor]]:
        """The numbers of each image of the batch of the data loader."""
        batch, size = record.batch, record.batch_size
        samples = batch.get('data_samples') if isinstance(
            batch, Mapping) else None
        if samples is None or len(samples) != size:
            if record.to_judge:  # the batch sampler has left some out
                return []
            raise ValueError(
                'it divides by a number of the full batch, and the labels of '
                'the samples that are left out are not in what the data '
                'loader returned')
        divisor = getattr(getattr(self.model, 'data_preprocessor', None),
                          'pad_size_divisor', 1)
        for sample, image in zip(samples, batch['inputs']):
            if sample not in self._numbers:
                divisors = Divisors(local=True)
                shape = tuple(math.ceil(side / divisor) * divisor
                              for side in image.shape[-2:])
                with torch.no_grad():
                    run(self._made_up(arguments, sample, shape), divisors)
                self._numbers[sample] = [own.cpu() for own in divisors.own]
        return [self._numbers[sample] for sample in samples]

    def _made_up(self, arguments: dict[str, Any], sample: Any,
                 shape: tuple[int, ...]) -> dict[str, Any]:
        """The arguments for an image of which only its boxes are known."""
        made: dict[str, Any] = {}
        for name, value in arguments.items():
            if isinstance(value, Tensor):
                made[name] = torch.full_like(value[:, :1], 0.5)
                device = value.device
            elif name not in _OF_IMAGES:
                device = value[0].device
                made[name] = [
                    level.new_full((1, level.size(1), *(
                        math.ceil(side / step)
                        for side, step in zip(shape, stride[::-1]))), 0.5)
                    for level, stride in zip(
                        value, self.head.prior_generator.strides)]
        made['batch_gt_instances'] = [_boxes(sample.gt_instances, device)]
        made['batch_img_metas'] = [
            {**sample.metainfo, 'pad_shape': shape,
             'batch_input_shape': shape}]
        if 'ignored_instances' in sample and arguments.get(
                'batch_gt_instances_ignore') is not None:
            made['batch_gt_instances_ignore'] = [
                _boxes(sample.ignored_instances, device)]
        return made

    @staticmethod
    def _check(own: list[Tensor], expected: list[Tensor]) -> None:
        """Raises unless the numbers of a call are those of its images."""
        if len(own) != len(expected) or not all(
                torch.allclose(a.cpu(), b.to(a.dtype), rtol=1e-4, atol=1e-6)
                for a, b in zip(own, expected)):
            raise ValueError(
                'it divides by a number that is not the sum of those of the '
                'images, as the boxes in the batch of the data loader tell '
                'them')


def summed(losses: dict[str, Any]) -> dict[str, Any]:
    """What a head returned, with one number for each loss.

    Args:
        losses (dict): Losses, and lists of the losses of levels, by names
            with 'loss' in them; anything else by others.
    """
    return {
        name: sum(each.mean() for each in (
            value if isinstance(value, (list, tuple)) else [value]))
        if 'loss' in name else value for name, value in losses.items()}


def part_of(arguments: dict[str, Any], position: int) -> dict[str, Any]:
    """The arguments of ``loss_by_feat`` for one image.

    Args:
        arguments (dict): Those for a batch, by name: lists with an element
            for each image, lists of levels with the images along the first
            dimension, and tensors with the images along the second.
        position (int): The image's position in the batch.
    """
    part: dict[str, Any] = {}
    for name, value in arguments.items():
        if isinstance(value, Tensor):
            part[name] = value[:, position:position + 1]
        elif value is None or name in _OF_IMAGES:
            part[name] = value and [value[position]]
        else:
            part[name] = [level[position:position + 1] for level in value]
    return part


def _signature(head: nn.Module) -> inspect.Signature:
    """The arguments of a head's loss; subclasses may hand on what they get."""
    for cls in type(head).__mro__:
        if LOSS_METHOD in vars(cls):
            found = inspect.signature(vars(cls)[LOSS_METHOD])
            if _OF_IMAGES[0] in found.parameters:
                return found
    raise ValueError(f'its `{LOSS_METHOD}` has no argument `{_OF_IMAGES[0]}`')


def _boxes(instances: Any, device: torch.device) -> InstanceData:
    """The boxes and the classes of the objects in an image."""
    found = InstanceData()
    for name in ('bboxes', 'labels'):
        if name in instances:
            value = instances[name]
            # mmdet's boxes hold a tensor.
            found[name] = getattr(value, 'tensor', value).to(device)
    return found


def _total(numbers: list[list[Tensor]]) -> list[Tensor]:
    """The sums over images of their numbers."""
    return [torch.stack(each).sum(0) for each in zip(*numbers)]
