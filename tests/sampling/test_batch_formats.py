"""Batches of every format of the docs, in real trainings."""

import re
from inspect import signature
from pathlib import Path

import pytest
import torch
from mmengine.dataset import DefaultSampler, default_collate
from mmengine.hooks import Hook
from mmengine.logging import MessageHub
from mmengine.model import MMDistributedDataParallel
from mmengine.runner import IterBasedTrainLoop
from mmengine.structures import BaseDataElement
from torch.utils.data import ConcatDataset, DataLoader, Dataset

from ausam_mm import AUSAMBatchSampler

from ..processes import launch
from ..toy import record_selections, wrap
from .trainings import (
    LENGTH,
    PAPER,
    SYSTEMATIC,
    WORKERS,
    assert_same,
    state,
    train,
)

PAGE = Path(__file__).parents[2] / 'docs' / 'batches.md'
SECTION = PAGE.read_text(encoding='utf-8').split(
    '## Formats of a batch')[1].split('\n## ')[0]
BASE, *EXAMPLES = re.findall(r'```python\n(.*?)```', SECTION, re.DOTALL)
NAMES = ['data elements', 'dicts', 'pair', 'meta', 'own names', 'namedtuple',
         'views']
SIZE = 24


def example(name):
    """What the page's example defines."""
    torch.manual_seed(0)
    names = {}
    exec(BASE + EXAMPLES[NAMES.index(name)], names)
    return names


def trained(folder, name, wrapper=PAPER, wrap=lambda model: model,
            data=lambda names: names['Data'](), **options):
    names = example(name)
    torch.manual_seed(0)
    model = wrap(names['Model']().double())
    names['images'] = names['images'].double()
    loader = {'collate_fn': dict(type='default_collate'),
              **options.pop('loader', {}), 'dataset': data(names)}
    return train(folder, wrapper, loader=loader, model=lambda: model,
                 **options)


def without_loaded(run):
    return [{**seen, 'loaded': 0} for seen in run.seen]


# -- in the step and in the loader --


def test_the_page_has_the_examples_that_are_tested():
    assert len(EXAMPLES) == len(NAMES)


@pytest.fixture(scope='module')
def reference(tmp_path_factory):
    return trained(tmp_path_factory.mktemp('a'), 'data elements',
                   in_loader=False)


@pytest.mark.parametrize('in_loader', [False, True], ids=['step', 'loader'])
@pytest.mark.parametrize('name', NAMES)
def test_a_format_trains_as_data_elements_do_in_the_step(
        tmp_path, name, in_loader, reference):
    if name == 'pair' and not in_loader:
        with pytest.raises(ValueError, match="type='AUSAMBatchSampler'.*"
                           "sample_idx.*scores='uniform'"):
            trained(tmp_path, name, in_loader=False)
        return
    run = trained(tmp_path, name, in_loader=in_loader)
    history = run.optim_wrapper.history
    assert sorted(history.state_dict()['keys']) == list(range(SIZE))
    assert [seen['loaded'] for seen in run.seen] == [8] * 3 + [
        4 if in_loader else 8] * 9
    if name != 'views':  # whose second view is another input
        assert_same(without_loaded(run), without_loaded(reference))
        assert_same(state(run)[0], state(reference)[0])


# -- pairs, which say nothing: the order tells which samples they are --


class Truth(Hook):
    """The numbers of the images that really came: a pixel has it."""

    def __init__(self):
        self.numbers = []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.numbers.append(numbers_of(data_batch))


def numbers_of(data_batch):
    return (data_batch[0][:, 0, 0, 0] * 100).round().long()


def numbered(names):
    """The page's pairs, each with its number in a pixel."""
    names['images'][:, 0, 0, 0] = torch.arange(SIZE) / 100
    return names['Data']()


def pairs(folder, workers='none', **options):
    """A training by pairs, whose keys are compared with what came."""
    truth = Truth()
    run = trained(folder, 'pair', **{
        'wrapper': dict(SYSTEMATIC, warmup_iters=2, ramp_iters=8),
        'data': numbered, **options}, hooks=[truth], loader=WORKERS[workers])
    assert run.seen
    numbers = [came for i, came in enumerate(truth.numbers)
               if i != getattr(run.model, 'untrained', None)]
    assert_same([seen['keys'] for seen in run.seen],
                numbers[:len(run.seen)])
    return run


LOOPS = dict(
    epochs=dict(), iterations=dict(by_epoch=False, length=LENGTH),
    passes=dict(by_epoch=False, length=LENGTH, endless=False))
# A resume by each loop of MMEngine, then by those of exact resume.
RESUMES = [
    ('epochs', 'one', False), ('iterations', 'none', False),
    ('iterations', 'one', False), ('passes', 'one', False),
    ('epochs', 'one', True), ('iterations', 'persistent', True),
    ('passes', 'one', True)]


@pytest.mark.parametrize('loop,workers,exact', [
    case if i in (2, 6) else pytest.param(*case, marks=pytest.mark.slow)
    for i, case in enumerate(RESUMES)])
def test_pairs_are_recognized_after_a_resume(tmp_path, loop, workers, exact):
    options = dict(LOOPS[loop], workers=workers, exact=exact,
                   checkpoints_by_epoch=False)
    pairs(tmp_path / 'a', stop=4, **options)
    resumed = pairs(tmp_path / 'a', resume=True, **options)
    assert {seen['loaded'] for seen in resumed.seen[4:]} == {6}
    if exact or loop == 'iterations':
        whole = pairs(tmp_path / 'b', **options)
        assert_same(whole.seen[4:], resumed.seen)


@pytest.mark.skipif(
    'fast_forward_on_resume' not in signature(IterBasedTrainLoop).parameters,
    reason='mmengine 0.10.7 always replays')
@pytest.mark.parametrize('workers', ['none', 'persistent'])
@pytest.mark.parametrize('stop', [1, 7])
def test_pairs_are_recognized_by_a_loop_that_does_not_replay(
        tmp_path, stop, workers):
    options = dict(LOOPS['iterations'], workers=workers)
    pairs(tmp_path, stop=stop, **options)
    run = pairs(tmp_path, resume=True, **options, loop=dict(
        by_epoch=False, fast_forward_on_resume=True))
    assert len(run.seen) == LENGTH - stop


def losing_one(model):
    """A model that trains no batch the fourth time."""
    model.calls, model.untrained, step = 0, 3, model.train_step

    def train_step(data, optim_wrapper):
        model.calls += 1
        if model.calls == 1 + model.untrained:
            return dict(loss=torch.zeros(()))
        return step(data, optim_wrapper)

    model.train_step = train_step
    return model


@pytest.mark.parametrize('workers', ['none', 'persistent'])
def test_pairs_are_recognized_after_a_batch_that_is_not_trained(
        tmp_path, workers):
    run = pairs(tmp_path, workers=workers, wrap=losing_one,
                **LOOPS['iterations'])
    assert len(run.seen) == LENGTH - 1


def training_twice(model):
    step = model.train_step

    def train_step(data, optim_wrapper):
        step(data, optim_wrapper)
        return step(data, optim_wrapper)

    model.train_step = train_step
    return model


@pytest.mark.parametrize('workers', ['none', 'one'])
def test_pairs_that_are_trained_twice_are_refused(tmp_path, workers):
    with pytest.raises(ValueError, match='came twice or from elsewhere'):
        pairs(tmp_path, workers=workers, wrap=training_twice,
              **LOOPS['iterations'])


def test_pairs_are_recognized_in_any_loop_over_the_loader(request):
    """It begins before the wrapper, as in mmengine 0.10.7, and breaks."""
    hub = MessageHub.get_instance(request.node.name)
    names = example('pair')
    data, model = numbered(names), names['Model']()
    sampler = AUSAMBatchSampler(DefaultSampler(data, seed=0), 8)
    loader = DataLoader(
        data, batch_sampler=sampler, num_workers=1, prefetch_factor=4)
    batches = iter(loader)  # asks for all three of them
    wrapper = wrap(model, type='AUSAM')
    selections = record_selections(wrapper)
    hub.update_info('max_epochs', 9)
    for epoch, length in enumerate((3, 2, 1, 3)):
        hub.update_info('epoch', epoch)
        for came, _ in zip(batches, range(length)):
            model.train_step(came, wrapper)
            assert torch.equal(selections[-1].keys, numbers_of(came))
        batches = iter(loader)
    assert wrapper.batch_sampler is sampler and sampler.trained == 9
    assert sorted(wrapper.history.state_dict()['keys']) == list(range(SIZE))


def pairs_in_a_process(folder):
    """What a process found, of a whole training and of one that resumes."""
    options = dict(
        LOOPS['iterations'], workers='one', exact=True,
        wrap=MMDistributedDataParallel)
    whole = pairs(folder / 'a', **options)
    pairs(folder / 'b', stop=5, **options)
    resumed = pairs(folder / 'b', resume=True, **options)
    return [[run.seen, *state(run)] for run in (whole, resumed)]


@pytest.mark.slow
def test_pairs_are_recognized_by_two_processes(tmp_path):
    one, two = launch(pairs_in_a_process, 2, tmp_path)
    assert_same(one[0][0][5:], one[1][0])
    assert_same(two[0][0][5:], two[1][0])
    assert_same(one[0][1:], one[1][1:])
    tables = [found[0][2]['ausam_mm']['history'] for found in (one, two)]
    assert_same(*tables)
    assert sorted(tables[0]['keys']) == list(range(SIZE))


@pytest.mark.parametrize('loader,message', [
    (dict(collate_fn=dict(type=lambda samples: default_collate(samples[1:]))),
     'has selected 8 samples for this batch, of which 7 have come .*let the '
     'collate_fn keep all'),
    (dict(in_order=False), 'by their order, which in_order=False changes'),
])
def test_pairs_whose_order_is_lost_are_refused(tmp_path, loader, message):
    with pytest.raises(ValueError, match=message):
        trained(tmp_path, 'pair', loader=loader)


def test_a_data_sample_beside_a_pair_says_where_it_was_selected(tmp_path):
    """So that a collate_fn may drop samples."""

    def data(names):
        class Said(names['Data']):

            def __getitem__(self, i):
                return *super().__getitem__(i)[:2], BaseDataElement(
                    metainfo=dict(sample_idx=i))

        return Said()

    def without_the_first(samples):
        return default_collate(samples[1:])

    run = trained(tmp_path, 'meta', data=data, loader=dict(
        collate_fn=dict(type=without_the_first)))
    sampler = run.optim_wrapper.batch_sampler
    assert [seen['loaded'] for seen in run.seen] == [7] * 3 + [3] * 9
    known = sampler.keys[sampler.keys >= 0]
    assert torch.equal(known, (sampler.keys >= 0).nonzero().flatten())


# -- samples that cannot be told apart by what they say --


class Two(Dataset):
    """In-memory samples of one of two sources, whose indices restart."""

    def __init__(self, names, source, path=False):
        self.images, self.labels = names['images'], names['labels']
        self.source, self.path = source, path

    def __len__(self):
        return SIZE // 2

    def __getitem__(self, i):
        place = i + self.source * len(self)
        more = dict(img_path=f'{self.source}/{i}') if self.path else {}
        return dict(inputs=self.images[place], data_samples=(
            BaseDataElement(metainfo=dict(sample_idx=i, **more),
                            label=self.labels[place])))


def joined(**options):
    return lambda names: ConcatDataset(
        [Two(names, source, **options) for source in (0, 1)])


def keys_of(run):
    return run.optim_wrapper.history.state_dict()['keys'].tolist()


def test_indices_of_joined_datasets_are_told_apart_by_the_loader(
        tmp_path, capsys):
    run = trained(tmp_path, 'data elements', data=joined())
    assert sorted(keys_of(run)) == list(range(SIZE))
    assert 'share one score' not in capsys.readouterr().out
    # As keys that need no number, which are the same in the step.
    known = [keys_of(trained(
        tmp_path, 'data elements', data=joined(path=True),
        in_loader=in_loader)) for in_loader in (True, False)]
    assert len(set(known[0])) == SIZE and set(known[0]) == set(known[1])


def test_indices_of_joined_datasets_in_the_step_warn_once(tmp_path, capsys):
    run = trained(tmp_path, 'data elements', data=joined(), in_loader=False)
    assert sorted(keys_of(run)) == list(range(SIZE // 2))
    said = capsys.readouterr().out
    assert said.count('so that they share one score') == 1
    assert "batch_sampler=dict(type='AUSAMBatchSampler')" in said


@pytest.mark.parametrize('name', ['data elements', 'meta', 'own names'])
def test_a_sample_that_is_loaded_twice_is_no_reason_to_warn(
        tmp_path, capsys, name):
    """Two copies in a batch, with other augmentations."""

    def data(names):
        class Twice(names['Data']):

            def __getitem__(self, i):
                names['images'] += 1e-3
                return super().__getitem__(i // 2)

        return Twice()

    trained(tmp_path, name, data=data, in_loader=False)
    assert 'share one score' not in capsys.readouterr().out
