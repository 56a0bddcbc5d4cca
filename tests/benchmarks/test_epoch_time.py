"""Times of whole epochs: what is counted, in which order, what is written."""

import json
import math

import cv2
import numpy as np
import pytest
from mmengine.logging import MessageHub
from mmengine.registry import DATA_SAMPLERS
from torch.utils.data import BatchSampler, ConcatDataset, Dataset

from benchmarks import epoch_time, sampler_cost

from ..tools.test_tools import ROOT

DIGITS = str(
    ROOT / 'configs/classification/digits/resnet18-c16_b64_digits.py')
OPTIONS = ['model.backbone.base_channels=4', 'model.backbone.stem_channels=4',
           'model.head.in_channels=32', 'train_dataloader.batch_size=4',
           'train_dataloader.dataset.data_root=images']


@pytest.fixture(autouse=True)
def clean(monkeypatch, tmp_path):
    """A folder with 16 images, and no message hubs that stay."""
    monkeypatch.setenv('LOCAL_RANK', '0')  # set by the tool otherwise
    monkeypatch.chdir(tmp_path)
    for i in range(16):
        folder = tmp_path / 'images' / 'train' / str(i % 2)
        folder.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / f'{i}.jpg'), np.random.default_rng(
            i).integers(0, 255, (16, 16, 3), dtype='uint8'))
    hubs = MessageHub._instance_dict.copy()
    yield
    MessageHub._instance_dict.clear()
    MessageHub._instance_dict.update(hubs)


def summary(*arguments, options=()):
    """Runs the tool in the current folder and returns what it wrote."""
    epoch_time.main([DIGITS, *arguments, '--out', 'out', '--cfg-options',
                     *OPTIONS, *options])
    with open('out/summary.json') as file:
        return json.load(file)


@pytest.mark.slow
@pytest.mark.parametrize('num_workers', [0, 1])
def test_loaded_and_trained_samples_are_counted_apart(tmp_path, num_workers):
    # The batches that a worker loads ahead of the first scores are whole, but
    # those are in the epoch that does not count.
    result = summary(
        '--epochs', '2',
        options=[f'train_dataloader.num_workers={num_workers}'])
    case, = result['results']
    assert (case['samples'], case['batch_size'], case['num_workers'],
            case['epochs']) == (16, 4, num_workers, 2)
    rows = case['rows']
    assert [row['setting'] for row in rows] == list(epoch_time.SETTINGS)
    assert [row['decoded'] for row in rows] == [16, 16, 16, 8]
    assert [row['backpropagated'] for row in rows] == [16, 32, 16, 16]
    for row in rows:
        assert len(row['seconds']) == 2 and row['finite']
        assert row['ratios'] == [
            a / b for a, b in zip(row['seconds'], rows[0]['seconds'])]
        low, high = row['range']
        assert 0 < low <= row['ratio'] <= high < math.inf
        assert row['loader_seconds'] > 0
    text = (tmp_path / 'out/summary.md').read_text()
    assert all(f'| {row["setting"]} | ' in text for row in rows)
    assert (tmp_path / 'out/epoch_time.png').stat().st_size > 10_000
    assert 'threads' in result['machine']
    assert '--epochs 2' in result['command']


def test_settings_take_turns_each_in_its_own_hub(monkeypatch):
    turns = []

    def run_epoch(arm, device, train=True):
        epoch_time.make_current(arm.hub)
        hub = MessageHub.get_current_instance()
        assert hub is arm.hub is arm.setup.wrapper.message_hub
        turns.append((arm.setup.setting, train))
        return 3. if arm.setup.setting == 'SAM' else 2.

    monkeypatch.setattr(epoch_time, 'run_epoch', run_epoch)
    result = summary('--settings', 'OptimWrapper', 'SAM', '--epochs', '3')
    assert turns == 4 * [('OptimWrapper', True), ('SAM', True)] + [
        ('OptimWrapper', False), ('SAM', False)]
    plain, sam = result['results'][0]['rows']
    assert plain['ratio'] == 1 and plain['loader_seconds'] == 2
    assert sam['ratio'] == 1.5 and sam['ratios'] == [1.5] * 3


class LoadsAllOfIt(BatchSampler):
    """Says that it takes half of each batch, and has all of it loaded."""

    def __init__(self, sampler, batch_size):
        super().__init__(sampler, batch_size, drop_last=False)

    def __iter__(self):
        def load(indices):
            return [self.sampler.dataset[i] for i in indices][::2]

        self.sampler.dataset.__getitems__ = load
        return super().__iter__()


def test_a_sampler_that_loads_and_throws_away_is_seen(monkeypatch):
    monkeypatch.setitem(
        DATA_SAMPLERS.module_dict, 'LoadsAllOfIt', LoadsAllOfIt)
    row, = summary(
        '--settings',
        'OptimWrapper train_dataloader.batch_sampler.type=LoadsAllOfIt',
        '--epochs', '1')['results'][0]['rows']
    assert row['decoded'] == 16 and row['backpropagated'] == 8


def test_counting_leaves_a_dataset_what_it_is():
    class Numbers(Dataset):

        def __len__(self):
            return 3

        def __getitem__(self, index):
            return index

    dataset = ConcatDataset([Numbers(), Numbers()])
    loads = epoch_time.count_loads(dataset)
    assert isinstance(dataset, ConcatDataset) and len(dataset) == 6
    assert [dataset[i] for i in range(4)] == [0, 1, 2, 0]
    assert loads.value == 4


@pytest.mark.parametrize('arguments,options,message', [
    (['--settings', 'ASUAM'], [], 'no such wrapper is registered; .*AUSAM'),
    (['--settings', 'AUSAM alpha=2'], [], "'AUSAM alpha=2': alpha=2 must be"),
    (['--settings', 'SAM train_dataloader.batch_sampler.type=Absent'], [],
     'The setting .*Absent'),
    ([], ['train_dataloader.dataset.data_root=absent'],
     'cannot be read .*data_root=FOLDER'),
    ([], ['train_dataloader.sampler.type=InfiniteSampler'],
     'has no epochs, so set'),
])
def test_bad_input_is_told_before_anything_runs(arguments, options, message,
                                                monkeypatch):
    monkeypatch.setattr(epoch_time, 'run_epoch', None)
    with pytest.raises(SystemExit, match=message):
        summary(*arguments, options=options)


def test_a_timed_epoch_is_selected_by_the_sampler(monkeypatch):
    lengths = []
    train = sampler_cost.pseudo_collate

    def collate(samples):
        lengths.append(len(samples))
        return train(samples)

    monkeypatch.setattr(sampler_cost, 'pseudo_collate', collate)
    row = sampler_cost.measure(100, batch_size=8, steps=3)
    # Whole in the warm-up, and then alpha of it.
    assert lengths == [8, 4, 4, 4]
    assert row['samples'] == '100'
