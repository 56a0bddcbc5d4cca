"""The configs read the archives' own formats, made here in small.

Downloads, checksums, pickles of Python 2, folders, JSON and MATLAB files: what
is in them is made up, how it is written is not.
"""

import hashlib
import io
import json
import pickle
import tarfile

import cv2
import numpy as np
import pytest
from mmengine.config import Config
from mmengine.logging import MessageHub
from mmengine.runner import Runner
from mmpretrain.datasets import CIFAR10, CIFAR100
from scipy.io import savemat

from ..tools.test_converters import CONVERTERS, jpeg, zip_of
from ..tools.test_tools import ROOT, run

CONFIGS = ROOT / 'configs'
SMALL_RESNET = {'backbone.base_channels': 4, 'backbone.strides': (2, 2, 2, 1),
                'head.in_channels': 32}


@pytest.fixture(autouse=True)
def no_hubs_stay():
    kept = MessageHub._instance_dict.copy()
    yield
    MessageHub._instance_dict.clear()
    MessageHub._instance_dict.update(kept)


def train(config, folder, batch_size, model, **options):
    """Trains a small model for two epochs; returns the Runner and metrics."""
    cfg = Config.fromfile(CONFIGS / config)
    cfg.merge_from_dict({
        'work_dir': str(folder / 'work_dir'), 'train_cfg.max_epochs': 2,
        'train_cfg.val_interval': 2, 'optim_wrapper.ramp_epochs': 0,
        **{f'model.{name}': value for name, value in model.items()},
        **options})
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        loader.update(batch_size=batch_size, num_workers=0,
                      persistent_workers=False)
    runner = Runner.from_cfg(cfg)
    runner.train()
    metrics = {name.removeprefix('val/'): history.current()
               for name, history in runner.message_hub.log_scalars.items()
               if name.startswith('val/') and 'time' not in name}
    assert runner.optim_wrapper.samples_loaded > 0
    return runner, metrics


class Python2Pickler(pickle._Pickler):
    """Writes text and bytes alike, as Python 2 did."""

    dispatch = dict(pickle._Pickler.dispatch)

    def save_string(self, text):
        content = text if isinstance(text, bytes) else text.encode('latin1')
        self.write(pickle.BINSTRING + len(content).to_bytes(4, 'little')
                   + content)
        self.memoize(text)

    dispatch[str] = dispatch[bytes] = save_string

    def save_global(self, obj, name=None):
        """NumPy's function, where it was."""
        if obj.__name__ == '_reconstruct':
            self.write(b'cnumpy.core.multiarray\n_reconstruct\n')
            self.memoize(obj)
        else:
            super().save_global(obj, name)

    dispatch[type(np.core.multiarray._reconstruct)] = save_global


def python2_pickle(content):
    file = io.BytesIO()
    Python2Pickler(file, protocol=2).dump(content)
    return file.getvalue()


def md5(content):
    return hashlib.md5(content).hexdigest()


@pytest.fixture(params=[CIFAR10, CIFAR100], ids=['cifar10', 'cifar100'])
def cifar(request, tmp_path, monkeypatch):
    """A small archive of the kind, from where mmpretrain downloads it."""
    kind = request.param
    labels = 'fine_labels' if kind is CIFAR100 else 'labels'
    rng = np.random.default_rng(0)
    files, images, targets = {}, [], []
    for name, _ in kind.train_list + kind.test_list:
        image = rng.integers(0, 256, (8, 3, 32, 32), 'uint8')
        target = rng.integers(0, len(kind.METAINFO['classes']), 8).tolist()
        content = {
            'batch_label': name, labels: target, 'data': image.reshape(8, -1),
            'filenames': [f'{name}_{i}.png' for i in range(8)]}
        if kind is CIFAR100:
            content['coarse_labels'] = [label // 5 for label in target]
        files[name] = python2_pickle(content)
        images.append(image.transpose(0, 2, 3, 1))
        targets += target
    archive = tmp_path / 'server' / kind.filename
    archive.parent.mkdir()
    with tarfile.open(archive, 'w:gz') as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(f'{kind.base_folder}/{name}')
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    monkeypatch.setattr(kind, 'url', archive.as_uri())
    monkeypatch.setattr(kind, 'tgz_md5', md5(archive.read_bytes()))
    for listed in ('train_list', 'test_list'):
        monkeypatch.setattr(kind, listed, [
            [name, md5(files[name])] for name, _ in getattr(kind, listed)])
    return kind, np.concatenate(images), targets


@pytest.mark.slow
def test_cifars_archive_is_downloaded_checked_read_and_trained(
        cifar, tmp_path):
    kind, images, targets = cifar
    name = kind.__name__.lower()
    root = str(tmp_path / name)
    runner, metrics = train(
        f'classification/{name}/resnet18_ausam_b256_{name}.py', tmp_path, 8,
        SMALL_RESNET, **{'train_dataloader.dataset.data_root': root,
                         'val_dataloader.dataset.data_root': root})
    assert set(metrics) == {'accuracy/top1', 'accuracy/top5'}
    train_set = runner.train_dataloader.dataset
    val_set = runner.val_dataloader.dataset
    number = len(images) - 8  # the others are there to validate
    assert (len(train_set), len(val_set)) == (number, 8)
    # All twice in the warm-up, and then half of them.
    assert runner.optim_wrapper.samples_backpropagated == 3 * number
    for dataset, first in ((train_set, 0), (val_set, number)):
        for i in range(8):
            info = dataset.get_data_info(i)
            np.testing.assert_array_equal(info['img'], images[first + i])
            assert info['gt_label'] == targets[first + i]
    packed = val_set[3]['inputs']  # neither cropped nor cut
    np.testing.assert_array_equal(
        packed.permute(1, 2, 0).numpy(), images[number + 3])
    damaged = tmp_path / name / kind.base_folder / kind.train_list[0][0]
    damaged.write_bytes(damaged.read_bytes()[:-1] + b' ')
    with pytest.raises(RuntimeError, match='Cannot find CIFAR'):
        kind(root, download=False)


@pytest.mark.slow
def test_tiny_imagenets_official_archive_becomes_folders_that_train(tmp_path):
    wnids = [f'n{i:08}' for i in range(10)]
    official = {'wnids.txt': '\n'.join(wnids),
                'words.txt': ''.join(f'{w}\tthing\n' for w in wnids),
                'val/val_annotations.txt': ''.join(
                    f'val_{i}.JPEG\t{wnid}\t0\t32\t44\t62\n'
                    for i, wnid in enumerate(reversed(wnids))),
                'test/images/test_0.JPEG': jpeg(64, 64)}
    for i, wnid in enumerate(wnids):
        official[f'train/{wnid}/{wnid}_boxes.txt'] = f'{wnid}_0.JPEG\t0\t0'
        official[f'val/images/val_{i}.JPEG'] = jpeg(64, 64)
        for j in range(2):
            official[f'train/{wnid}/images/{wnid}_{j}.JPEG'] = jpeg(64, 64)
    zip_of(tmp_path / 'tiny-imagenet-200.zip', {
        f'tiny-imagenet-200/{name}': content
        for name, content in official.items()})
    run(CONVERTERS / 'tiny_imagenet.py', 'tiny-imagenet-200.zip',
        cwd=tmp_path)
    root = str(tmp_path / 'data' / 'tiny_imagenet')
    runner, metrics = train(
        'classification/tiny_imagenet/resnet18_ausam_b128_tiny-imagenet.py',
        tmp_path, 10, SMALL_RESNET, **{
            'train_dataloader.dataset.data_root': root,
            'val_dataloader.dataset.data_root': root})
    assert set(metrics) == {'accuracy/top1', 'accuracy/top5'}
    assert runner.optim_wrapper.samples_backpropagated == 3 * 20
    val_set = runner.val_dataloader.dataset
    found = {val_set.get_data_info(i)['img_path'].split('/')[-1]:
             val_set.get_data_info(i)['gt_label'] for i in range(10)}
    assert found == {f'val_{i}.JPEG': 9 - i for i in range(10)}


def write_mpii(root, people=6):
    """Annotations as mmpose has them; every image has two people."""
    rng = np.random.default_rng(0)
    (root / 'images').mkdir(parents=True)
    (root / 'annotations').mkdir()
    heads = rng.uniform(10, 40, (2, 2, people))
    heads[1] += 20  # the lower right corner
    for split in ('train', 'val'):
        entries = []
        for i in range(people):
            name = f'{15601864 + i // 2:09}.jpg'
            (root / 'images' / name).write_bytes(jpeg(160, 120))
            joints = rng.uniform(20, 100, (16, 2))
            visible = rng.integers(0, 2, 16)
            joints[visible == 0] = -1
            entries.append(dict(
                joints_vis=visible.tolist(), joints=joints.tolist(),
                image=name, scale=0.6, center=[60., 50.]))
        (root / 'annotations' / f'mpii_{split}.json').write_text(
            json.dumps(entries))
    savemat(root / 'annotations' / 'mpii_gt_val.mat', dict(
        headboxes_src=heads, jnt_missing=np.zeros((16, people)),
        pos_gt_src=np.zeros((16, 2, people))))
    return entries, heads


@pytest.mark.slow
def test_mpiis_annotations_are_read_trained_and_measured_by_the_head(
        tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the config names data/mpii twice
    entries, heads = write_mpii(tmp_path / 'data' / 'mpii')
    runner, metrics = train(
        'pose/mpii/simcc_res18_sgd_ausam_8xb64-210e_mpii-256x256.py',
        tmp_path, 3, {
            'backbone.base_channels': 4, 'backbone.stem_channels': 4,
            'backbone.init_cfg': None, 'head.in_channels': 32})
    assert 0 <= metrics['PCK'] <= 100 and 'Head PCK' in metrics
    # One of three is the half of a batch.
    assert runner.optim_wrapper.samples_backpropagated == 2 * 6 + 2 * 2
    val_set = runner.val_dataloader.dataset
    for i, entry in enumerate(entries):
        info = val_set[i]['data_samples']
        visible = np.array(entry['joints_vis'])
        np.testing.assert_array_equal(
            info.gt_instances.keypoints_visible[0], visible)
        np.testing.assert_allclose(
            info.gt_instances.keypoints[0][visible == 1],
            np.array(entry['joints'])[visible == 1], rtol=1e-6)
        low, high = heads[:, :, i]
        # PCKh's unit is 0.6 of the diagonal of the head's box.
        assert info.gt_instances.head_size.item() == pytest.approx(
            0.6 * np.hypot(*(high - low)))
    assert cv2.imread(info.img_path) is not None
