"""Who the samples are, and what the table says of them."""

import json

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import (
    BaseDataset,
    ClassBalancedDataset,
    ConcatDataset,
    RepeatDataset,
    pseudo_collate,
)
from mmengine.structures import BaseDataElement
from scipy.stats import spearmanr

from ausam_mm import LabelNoise, SampleHistory, checkpoint_loading
from ausam_mm.analysis.commands import scores as command
from ausam_mm.analysis.samples import (
    find_samples,
    history_in,
    open_checkpoint,
)
from ausam_mm.analysis.scores import (
    Scores,
    compare,
    extremes,
    scores_of,
    summarize,
)
from ausam_mm.sampling import sample_keys

from ..runs import runner
from ..tools.test_tools import PLAIN, ROOT, data, run  # noqa: F401
from .test_gradients import TOOL, loading  # noqa: F401

FIELDS = ('sample_idx', 'img_path')


class Pack:
    """A pipeline that counts the images it loads."""

    def __init__(self, fields=FIELDS, renamed=''):
        self.fields, self.renamed, self.loaded = fields, renamed, 0

    def __call__(self, info):
        self.loaded += 1
        meta = {name: info[name] for name in self.fields}
        if self.renamed:
            meta['img_path'] = self.renamed + meta['img_path']
        return dict(inputs=torch.zeros(1), data_samples=BaseDataElement(
            metainfo=meta, gt_label=torch.tensor([info['gt_label']])))


class Images(BaseDataset):
    METAINFO = dict(classes=('cat', 'dog', 'bird'))

    def __init__(self, size=30, name='a', pack=None):
        self.size, self.name = size, name
        super().__init__(pipeline=[pack or Pack()])

    def load_data_list(self):
        return [dict(img_path=f'{self.name}/{i}.png', gt_label=i % 3)
                for i in range(self.size)]

    def get_cat_ids(self, index):
        return [self.get_data_info(index)['gt_label']]


def keys_in_batches(dataset, indices):
    return sample_keys(pseudo_collate([dataset[i] for i in indices]))


@pytest.mark.parametrize('wrap', [
    lambda one: one,
    lambda one: LabelNoise(one, ratio=0.3),
    lambda one: RepeatDataset(one, times=3),
    lambda one: ClassBalancedDataset(one, oversample_thr=0.9),
    lambda one: ConcatDataset([one, Images(20, 'b', one.pipeline.transforms[0]
                                           )]),
    lambda one: ConcatDataset([
        dict(type='RepeatDataset', times=2, dataset=dict(
            type='LabelNoise', ratio=0.3, dataset=one)),
        Images(20, 'b', one.pipeline.transforms[0])]),
], ids=['plain', 'noise', 'repeated', 'balanced', 'joined', 'all'])
def test_samples_are_those_of_the_batches_and_few_are_loaded(wrap):
    pack = Pack()
    dataset = wrap(Images(pack=pack))
    found = find_samples(dataset, pseudo_collate)
    assert pack.loaded <= 4 and not found.loaded
    everything = keys_in_batches(dataset, range(len(dataset)))
    assert set(found.keys.tolist()) == set(everything.tolist())
    assert len(found) == len(set(everything.tolist()))  # copies are one
    assert torch.equal(found.keys, everything[found.indices])
    assert found.shared == 0 and found.grouped == 'class'
    for i in range(len(found)):
        info = dataset.get_data_info(int(found.indices[i]))
        assert found.paths[i] == info['img_path']
        assert found.names[found.groups[i]] == (
            'cat', 'dog', 'bird')[info['gt_label']]
        if found.wrong is not None:
            assert bool(found.wrong[i]) == info.get('wrong_label', False)
    assert (found.wrong is None) == ('true_label' not in
                                     dataset.get_data_info(0))


def test_annotations_that_do_not_tell_are_not_believed():
    pack = Pack(renamed='/elsewhere/')
    dataset = Images(pack=pack)
    found = find_samples(dataset, pseudo_collate)
    assert found.loaded and pack.loaded >= len(dataset)
    assert torch.equal(found.keys, keys_in_batches(dataset, range(30)))
    assert found.groups.tolist() == [0, 1, 2] * 10
    assert found.paths[3] == '/elsewhere/a/3.png'
    with pytest.raises(ValueError, match='set number=0'):
        find_samples(dataset, pseudo_collate, load=False)


def test_samples_without_identity_need_a_batch_sampler():
    dataset = [dict(inputs=torch.zeros(1))] * 5
    with pytest.raises(ValueError, match='AUSAMBatchSampler'):
        find_samples(dataset, pseudo_collate)
    found = find_samples(dataset, pseudo_collate, numbered=True)
    assert found.keys.tolist() == [0, 1, 2, 3, 4] and not found.paths
    assert found.groups.tolist() == [-1] * 5 and not found.names


def test_samples_of_one_identity_are_counted():
    dataset = ConcatDataset([Images(4, name, Pack(('sample_idx', )))
                             for name in 'ab'])
    found = find_samples(dataset, pseudo_collate)
    assert len(found) == 8 and found.shared == 4
    # The batch sampler of a training tells them apart.
    assert find_samples(dataset, pseudo_collate, numbered=True).shared == 0


def test_scores_and_counts_are_those_of_the_table():
    dataset = LabelNoise(Images(), ratio=0.3)
    samples = find_samples(dataset, pseudo_collate)
    history = SampleHistory()
    for i in range(28):
        for _ in range(1 + i % 2):
            history.update(samples.keys[i:i + 1], torch.tensor([float(i)]))
    history.update(samples.keys[28:29], torch.tensor([-torch.inf]))
    history.update(torch.tensor([5, 6]), torch.tensor([1., 1.]))
    scores = scores_of(samples, history)
    found = summarize(samples, scores)
    assert scores.values[:28].tolist() == [*range(28)]
    assert (found['known'], found['failed'], found['unknown'],
            found['strangers']) == (28, 1, 1, 2)
    assert found['score']['quantiles'][0] == 0
    assert found['score']['quantiles'][3] == 13.5
    assert found['score']['mean'] == 13.5
    assert found['count']['quantiles'] == np.quantile(
        [1, 2] * 14 + [0, 0], (0, .05, .25, .5, .75, .95, 1)).tolist()
    for number, group in enumerate(found['groups']):
        members = [i for i in range(30) if dataset.get_data_info(i)[
            'gt_label'] == number]
        assert group['samples'] == len(members)
        assert group['mean'] == pytest.approx(
            np.mean([i for i in members if i < 28]))
        assert group['count'] == pytest.approx(
            np.mean([1 + i % 2 if i < 28 else 0 for i in members]))
    true, wrong = found['labels']
    assert wrong['samples'] == 9 and true['samples'] == 21
    assert wrong['mean'] == pytest.approx(float(
        scores.values[samples.wrong & scores.known].mean()))
    highest, lowest = extremes(scores, 3)
    assert (highest.tolist(), lowest.tolist()) == ([27, 26, 25], [0, 1, 2])
    assert [len(part) for part in extremes(scores, 100)] == [14, 14]


def test_a_table_of_other_data_is_refused():
    samples = find_samples(Images(), pseudo_collate)
    history = SampleHistory()
    history.update(torch.tensor([5]), torch.tensor([1.]))
    with pytest.raises(ValueError, match='knows none of the samples'):
        scores_of(samples, history)


def test_drift_by_hand():
    first = torch.arange(20).double()
    second = first.clone()
    second[0], second[19] = 100., -1.  # the ends change places
    count = torch.ones(20, dtype=torch.int64)
    found = compare(Scores(first, count, 0), Scores(second, count, 0))
    assert found['samples'] == 20
    assert found['correlation'] == pytest.approx(
        spearmanr(first, second).statistic)
    # Nobody else is in another tenth: two of twenty, both far away.
    assert found['moved'] == found['moved_far'] == 0.1
    assert found['top_kept'] == 0.5
    second[5] = torch.nan
    assert compare(Scores(first, count, 0), Scores(second, count, 0)
                   )['samples'] == 19
    nothing = Scores(torch.full((3, ), torch.nan).double(), count[:3], 0)
    assert compare(nothing, nothing)['moved'] is None


def test_what_is_no_checkpoint_is_refused(tmp_path):
    runner(tmp_path, dict(type='OptimWrapper'), length=1).train()
    plain = tmp_path / 'epoch_1.pth'
    with pytest.raises(ValueError, match='has no ADLP table'):
        history_in(open_checkpoint(plain), plain)
    with pytest.raises(ValueError, match='There is no checkpoint'):
        open_checkpoint(tmp_path / 'epoch_9.pth')
    (tmp_path / 'half.pth').write_bytes(plain.read_bytes()[:1000])
    with pytest.raises(ValueError, match='is truncated'):
        open_checkpoint(tmp_path / 'half.pth')
    torch.save([1, 2], tmp_path / 'list.pth')
    with pytest.raises(ValueError, match='has no weights'):
        open_checkpoint(tmp_path / 'list.pth')


def test_poses_are_grouped_by_their_data_set():

    class Poses(Images):
        def load_data_list(self):
            return [dict(img_path=f'{self.name}/{i}.png', id=i,
                         dataset_name=self.name, gt_label=None)
                    for i in range(self.size)]

    class PackPoses(Pack):
        def __call__(self, info):
            return dict(inputs=torch.zeros(1), data_samples=BaseDataElement(
                metainfo={name: info[name] for name in (
                    'id', 'img_path', 'dataset_name')}))

    dataset = ConcatDataset([Poses(4, 'mpii', PackPoses()),
                             Poses(2, 'coco', PackPoses())])
    found = find_samples(dataset, pseudo_collate)
    assert found.grouped == 'data set' and not found.loaded
    assert [found.names[i] for i in found.groups] == ['mpii'] * 4 + [
        'coco'] * 2
    assert torch.equal(found.keys, keys_in_batches(dataset, range(6)))


@pytest.fixture(scope='module')
def training(data, tmp_path_factory):  # noqa: F811
    """The folder of a tiny training with wrong labels."""
    folder = tmp_path_factory.mktemp('noisy')
    cfg = Config.fromfile(PLAIN)
    cfg.train_dataloader.dataset = dict(
        type='LabelNoise', ratio=0.4, dataset=cfg.train_dataloader.dataset)
    cfg.dump(folder / 'noisy.py')
    run(ROOT / 'tools' / 'train.py', folder / 'noisy.py', '--optim-wrapper',
        'AUSAM', '--work-dir', folder / 'training', '--no-validate',
        '--cfg-options', 'train_cfg.max_epochs=3',
        'default_hooks.checkpoint.interval=1',
        'default_hooks.checkpoint.max_keep_ckpts=3',
        'optim_wrapper.ramp_epochs=1', 'optim_wrapper.keep_losses=mean',
        'model.backbone.base_channels=4',
        'model.backbone.stem_channels=4', 'model.head.in_channels=32',
        'train_dataloader.dataset.dataset.indices=64', cwd=data)
    return folder / 'training'


@pytest.mark.slow
def test_the_tool_shows_the_scores_of_a_training(
        training, data, tmp_path, monkeypatch):  # noqa: F811
    config = training / 'noisy.py'
    paths = training / 'epoch_2.pth', training / 'epoch_3.pth'
    output = run(TOOL, 'scores', config, *paths, '-n', 4, '--out',
                 tmp_path / 'out', cwd=data)
    for words in ('Scores (ADLP)', 'Scores by class', 'Drift of the scores',
                  'True and wrong labels'):
        assert words in output
    summary = json.loads((tmp_path / 'out' / 'summary.json').read_text())
    samples = json.loads((tmp_path / 'out' / 'samples.json').read_text())
    table = torch.load(paths[1], weights_only=False)['optimizer']['ausam_mm'][
        'history']
    means = dict(zip(table['keys'].tolist(), table['means'].tolist()))
    assert sorted(samples['keys']) == sorted(means)
    second = samples['checkpoints'][1]
    assert second['scores'] == [
        float(f'{means[key]:.6g}') for key in samples['keys']]
    assert summary['checkpoints'][1]['count']['mean'] == np.mean(
        second['counts'])
    assert sum(samples['wrong']) == round(0.4 * 64)
    for name in ('gallery.png', 'scores.png', 'summary.md'):
        assert (tmp_path / 'out' / name).stat().st_size > 1000
    # Neither the model nor an image is needed.
    monkeypatch.chdir(data)
    command.main([str(config), str(paths[1]), '-n', '0', '--out',
                  str(tmp_path / 'table'), '--cfg-options',
                  'model.type=NoSuchModel'])
    assert not (tmp_path / 'table' / 'gallery.png').exists()
    with checkpoint_loading():
        content = torch.load(paths[1])
    del content['optimizer']
    torch.save(content, tmp_path / 'published.pth')
    with pytest.raises(ValueError, match='has no ADLP table'):
        command.main([str(config), str(tmp_path / 'published.pth')])
