"""Batches against what the collate functions make of fewer samples."""

from collections import namedtuple

import numpy as np
import pytest
import torch
from mmengine.dataset import default_collate, pseudo_collate
from mmengine.structures import BaseDataElement
from torch.utils.data import default_collate as torch_collate

from ausam_mm.sampling import (
    batch_size,
    identities,
    sample_keys,
    shared_index,
    take,
)

Sample = namedtuple('Sample', 'image label sample_idx')
Pair = namedtuple('Pair', 'image label')
IMAGES = torch.arange(6 * 3 * 4 * 4.).view(6, 3, 4, 4)


def element(i, **more):
    return BaseDataElement(
        metainfo=dict(sample_idx=i, **more), label=torch.tensor(i % 2))


FORMATS = {
    'data elements': lambda i: dict(
        inputs=IMAGES[i], data_samples=element(i)),
    'dicts': lambda i: dict(inputs=IMAGES[i], data_samples=dict(
        label=i % 2, mask=IMAGES[i], sample_idx=i)),
    'meta': lambda i: (IMAGES[i], i % 2, dict(name=f'{i}', sample_idx=i)),
    'meta in a list': lambda i: [IMAGES[i], i % 2, dict(sample_idx=i)],
    'meta element': lambda i: (IMAGES[i], i % 2, element(i)),
    'own names': lambda i: dict(x=IMAGES[i], y=IMAGES[i, 0], sample_idx=i),
    'identity first': lambda i: dict(sample_idx=i, x=IMAGES[i], y=1.),
    'namedtuple': lambda i: Sample(IMAGES[i], i % 2, i),
    'namedtuple within': lambda i: dict(
        inputs=Pair(IMAGES[i], i), meta=dict(sample_idx=i)),
    'views': lambda i: dict(inputs=[IMAGES[i], -IMAGES[i]],
                            data_samples=element(i)),
    'inputs by name': lambda i: dict(
        inputs=dict(image=IMAGES[i], depth=IMAGES[i, :1]),
        data_samples=element(i)),
    'pair': lambda i: (IMAGES[i], i % 2),
    'unlabelled': lambda i: dict(inputs=IMAGES[i]),
}
COLLATES = [pseudo_collate, default_collate, torch_collate]
# Those of PyTorch know no data elements.
CASES = [(name, collate) for name in FORMATS for collate in COLLATES
         if collate is not torch_collate
         or name not in ('data elements', 'meta element', 'views',
                         'inputs by name')]


def plain(value):
    """Nested lists and numbers, whatever they were collated to."""
    if isinstance(value, BaseDataElement):
        return [value.sample_idx, value.label.tolist()]
    if isinstance(value, dict):
        return {name: plain(part) for name, part in value.items()}
    if isinstance(value, torch.Tensor):
        return value.tolist()
    if isinstance(value, (list, tuple)):
        return [plain(part) for part in value]
    return value


def collated(name, collate, numbers):
    return collate([FORMATS[name](i) for i in numbers])


@pytest.mark.parametrize('numbers', [
    [0, 1, 2, 3, 4, 5], [3, 1], [5, 0, 2], [4]], ids=str)
@pytest.mark.parametrize('name,collate', CASES)
def test_a_part_of_a_batch_is_what_fewer_samples_are_collated_to(
        name, collate, numbers):
    """Of 2, 3 and 4 samples: as many as views, channels and pixels."""
    data = collated(name, collate, numbers)
    assert batch_size(data) == len(numbers)
    for places in ([0], [len(numbers) - 1], [*range(len(numbers))][::2]):
        part = take(data, torch.tensor(places), len(numbers))
        assert type(part) is type(data)
        wanted = collated(name, collate, [numbers[i] for i in places])
        assert plain(part) == plain(wanted)
        assert batch_size(part) == len(places)


@pytest.mark.parametrize('name,collate', CASES)
def test_the_identity_is_found_wherever_it_is(name, collate):
    numbers = [3, 0, 5]
    data = collated(name, collate, numbers)
    if name in ('pair', 'unlabelled'):
        with pytest.raises(ValueError, match="type='AUSAMBatchSampler'.*"
                           "sample_idx.*scores='uniform'"):
            sample_keys(data)
        assert sample_keys(data, torch.tensor([7, 8, 9])).tolist() == [7, 8, 9]
    else:
        assert sample_keys(data).tolist() == numbers
        places = torch.tensor([2, 1])
        assert sample_keys(take(data, places, 3)).tolist() == [5, 0]
        # Where it is not unique, the number in the dataset counts.
        assert sample_keys(data, torch.tensor([7, 8, 9]), True).tolist() == [
            7, 8, 9]


def test_collated_fields_have_the_keys_of_data_elements():
    fields = [dict(dataset_name='coco', img_path=f'{i}.jpg', id=i, img_id=9)
              for i in range(3)]
    elements = dict(data_samples=[
        BaseDataElement(metainfo=one) for one in fields])
    keys = sample_keys(elements)
    assert len(set(keys.tolist())) == 3
    for data in (torch_collate(fields), pseudo_collate(fields),
                 torch_collate([(torch.rand(2), one) for one in fields]),
                 [torch.rand(3, 2), torch.rand(3), fields]):
        assert torch.equal(sample_keys(data), keys)
    pair = Pair(*map(list, zip(*((f'{i}.jpg', i) for i in range(3)))))
    kind = namedtuple('Meta', 'img_path sample_idx')
    assert torch.equal(sample_keys([torch.rand(3, 2), kind(*pair)]),
                       sample_keys(kind(*pair)._asdict()))
    # What is unique needs no number.
    assert torch.equal(sample_keys(elements, torch.arange(3), True), keys)


@pytest.mark.parametrize('number', [
    np.int64(4), torch.tensor(4), np.array(4)], ids=repr)
def test_numbers_of_every_kind_have_the_key_of_an_integer(number):
    assert sample_keys([torch.rand(1, 2), [dict(sample_idx=number)]]) == 4


def test_a_sample_of_several_tasks_is_known_by_its_parts():
    from mmpretrain.datasets.transforms import PackMultiTaskInputs

    pack = PackMultiTaskInputs(multi_task_fields=('gt_label', ))

    def sample(path, **tasks):
        return pack(dict(
            img=np.zeros((4, 4, 3), np.uint8), img_path=path, gt_label=tasks))

    data = pseudo_collate([sample('a', hair=1, age=2), sample('b', hair=0),
                           sample('a', age=1)])
    one, other, third = sample_keys(data).tolist()
    assert one == third != other
    with pytest.raises(ValueError, match='carry none of'):
        sample_keys(pseudo_collate([sample('a', hair=1), sample('b')]))


def test_a_batch_of_which_some_samples_have_no_identity_is_refused():
    data = dict(data_samples=[element(1), BaseDataElement()])
    with pytest.raises(ValueError, match='carry none of dataset_name'):
        sample_keys(data)
    assert sample_keys(data, torch.tensor([5, 8])).tolist() == [1, 8]


def labelled(*labels, **more):
    """Samples with the index 1 and these labels, whose inputs differ."""
    return [BaseDataElement(
        metainfo=dict(sample_idx=1, flip=i, **more), label=label)
        for i, label in enumerate(labels)]


@pytest.mark.parametrize('data,shared', [
    (dict(data_samples=labelled(0, 1), inputs=torch.rand(2, 4)), 1),
    (dict(data_samples=labelled(0, 0), inputs=torch.rand(2, 4)), None),
    (dict(data_samples=labelled(0, 1, id=5), inputs=torch.rand(2, 4)), None),
    ((torch.rand(2, 4), torch.tensor([0, 1]), dict(sample_idx=[1, 1])), 1),
    ((torch.rand(2, 4), torch.tensor([0, 0]), dict(sample_idx=[1, 1])), None),
    ((torch.rand(2, 4), torch.tensor([0, 1]), dict(sample_idx=[1, 2])), None),
    (dict(sample_idx=[1, 1], x=torch.rand(2), y=['a', 'b']), 1),
    (dict(sample_idx=[1, 1], x=torch.rand(2), y=[np.ones(2)] * 2), None),
    (Sample(torch.rand(2), dict(a=torch.rand(2)), torch.ones(2).long()), 1),
    (dict(sample_idx=[1, 1], x=torch.rand(2)), None),
])
def test_an_index_is_shared_by_samples_with_other_labels(data, shared):
    assert shared_index(data, identities(data)) == shared


# -- lists that may be samples or views --


def test_as_many_views_as_samples_are_cut_along_the_samples():
    views = [torch.randn(8, 3, 5, 5) for _ in range(8)]
    data = dict(inputs=views, data_samples=[element(i) for i in range(8)])
    part = take(data, torch.tensor([1, 6]), batch_size(data))
    assert len(part['inputs']) == 8
    for view, cut in zip(views, part['inputs']):
        assert torch.equal(cut, view[[1, 6]])


@pytest.mark.parametrize('shape', [(), (8, ), (8, 5, 5)], ids=str)
def test_features_and_images_whose_first_dimension_is_the_number_of_samples(
        shape):
    samples = [torch.randn(shape) for _ in range(8)]
    data = dict(inputs=samples, data_samples=[element(i) for i in range(8)])
    part = take(data, torch.tensor([1, 6]), batch_size(data))
    assert len(part['inputs']) == 2
    assert part['inputs'][0] is samples[1] and part['inputs'][1] is samples[6]


def test_sequences_of_other_lengths_are_samples():
    samples = [torch.rand(length, 5) for length in (3, 4, 2)]
    part, = take((samples, ), torch.tensor([2]), 3)
    assert len(part) == 1 and part[0] is samples[2]


@pytest.mark.parametrize('shape', [(8, 5), (8, 2, 3, 4, 4)], ids=str)
def test_lists_that_may_be_both_are_refused_when_they_are_cut(shape):
    data = dict(inputs=[torch.randn(shape)] * 8,
                data_samples=[element(i) for i in range(8)])
    assert batch_size(data) == 8
    with pytest.raises(ValueError, match='may be 8 samples, or 8 views.*'
                       'default_collate.*another batch_size'):
        take(data, torch.tensor([1, 6]), 8)
    data['inputs'] = torch.stack(data['inputs'])  # as the message says
    assert take(data, torch.tensor([1, 6]), 8)['inputs'].shape == (
        2, *shape)


@pytest.mark.parametrize('labels', [torch.arange(2), [0, 1]], ids=repr)
@pytest.mark.parametrize('kind', [list, lambda parts: Pair(*parts)])
def test_inputs_and_labels_in_a_call_are_cut_where_there_are_two_samples(
        kind, labels):
    call = (kind([torch.arange(2.).view(2, 1), labels]), )
    part, = take(call, torch.tensor([1]), 2)
    assert type(part) is type(call[0])
    assert part[0].tolist() == [[1.]] and list(part[1]) == [1]


def test_a_namedtuple_of_two_vectors_is_no_list_of_two_samples():
    part, = take((Pair(torch.arange(2), torch.arange(2)), ),
                 torch.tensor([1]), 2)
    assert part == Pair(1, 1)


@pytest.mark.parametrize('data,size', [
    (dict(inputs=[torch.rand(8, 3, 5, 5)] * 2), 8),
    (dict(inputs=[torch.rand(3, 5, 5)] * 4), 4),
    ([[torch.rand(27, 4)] * 6, [torch.rand(27, 3)] * 6], 6),
    ([[torch.rand(27, 4)] * 27, list(range(27))], 27),
    (dict(inputs=dict(points=[torch.rand(5, 3)] * 4, scale=torch.rand(2)),
          data_samples=[None] * 4), 4),
], ids=['views', 'images', 'sequences', 'labels', 'points'])
def test_the_number_of_samples_of_lists_of_tensors(data, size):
    assert batch_size(data) == size


@pytest.mark.parametrize('data,message', [
    (torch.rand(3), 'must be a dict, tuple or list, not a Tensor'),
    ({}, 'no part whose first dimension counts the samples'),
    (dict(inputs=None), 'no part whose first dimension counts the samples'),
    (dict(inputs=dict(image=torch.rand(8, 3), scale=torch.rand(2))),
     'no part whose first dimension counts the samples'),
    (dict(inputs=dict(image=torch.rand(8, 3), scale=torch.rand(2)),
          data_samples=[1] * 3), r'\[2, 8\] samples but 3'),
    (dict(inputs=torch.rand(3, 2), data_samples=[]), r'\[3\] samples but 0'),
    ((torch.rand(3, 2), torch.rand(4)), r'inputs for \[3\] samples but 4'),
    (dict(x=torch.rand(3, 2), y=dict(a=torch.rand(4))), r'\[3\] samples but 4')
])
def test_what_is_no_batch_is_refused(data, message):
    with pytest.raises(ValueError, match=message):
        batch_size(data)
