"""Data sets are written whole, from archives that are checked."""

import hashlib
import io
import json
import pickle
import re
import tarfile
import zipfile

import cv2
import numpy as np
import pytest
from mmengine.config import Config
from scipy.io import savemat

from .test_tools import ROOT, run

CONVERTERS = ROOT / 'tools' / 'dataset_converters'


def jpeg(width=32, height=32):
    image = np.random.default_rng(0).integers(
        0, 255, (height, width, 3), 'uint8')
    return cv2.imencode('.jpg', image)[1].tobytes()


def zip_of(path, files):
    with zipfile.ZipFile(path, 'w') as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def tar_of(path, files):
    with tarfile.open(path, 'w') as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def files_in(folder):
    return sorted(str(path.relative_to(folder))
                  for path in folder.rglob('*') if path.is_file())


@pytest.mark.slow
def test_cifar_from_an_npz_has_equally_many_of_each_class(tmp_path):
    image = np.frombuffer(jpeg(), np.uint8)
    arrays = dict(classes=np.array(['cat', 'dog']))
    for split, count in (('train', 10), ('test', 6)):
        arrays[f'{split}_jpeg'] = np.tile(image, count)
        arrays[f'{split}_off'] = np.arange(count + 1) * len(image)
        arrays[f'{split}_y'] = np.arange(count) % 2
    np.savez(tmp_path / 'subset.npz', **arrays)
    convert = CONVERTERS / 'cifar.py'
    out = tmp_path / 'cifar'
    run(convert, tmp_path / 'subset.npz', '--num-train', 4, '--out', out,
        cwd=tmp_path)
    found = sorted(str(path.relative_to(out)) for path in out.rglob('*.jpg'))
    assert [name for name in found if 'train' in name] == [
        'train/cat/00000.jpg', 'train/cat/00002.jpg', 'train/dog/00001.jpg',
        'train/dog/00003.jpg']
    assert len(found) == 4 + 6
    assert cv2.imread(str(out / found[0])).shape == (32, 32, 3)
    damaged = tmp_path / 'cifar-10-python.tar.gz'
    damaged.write_bytes(b'damaged')
    out = run(convert, damaged, '--out', tmp_path / 'other', cwd=tmp_path,
              ok=False)
    assert 'is damaged: its MD5 is not' in out and 'Traceback' not in out


TINY = {
    'tiny-imagenet-200/wnids.txt': b'n1\nn2\n',
    'tiny-imagenet-200/val/val_annotations.txt':
    b'val_0.JPEG\tn2\t0\t0\t9\t9\nval_1.JPEG\tn1\t0\t0\t9\t9\n',
    'tiny-imagenet-200/train/n1/images/n1_0.JPEG': jpeg(64, 64),
    'tiny-imagenet-200/train/n2/images/n2_0.JPEG': jpeg(64, 64),
    'tiny-imagenet-200/val/images/val_0.JPEG': jpeg(64, 64),
    'tiny-imagenet-200/val/images/val_1.JPEG': jpeg(64, 64),
    'tiny-imagenet-200/test/images/test_0.JPEG': jpeg(64, 64),
}
TINY_WRITTEN = ['train/n1/n1_0.JPEG', 'train/n2/n2_0.JPEG',
                'val/n1/val_1.JPEG', 'val/n2/val_0.JPEG']


def test_tiny_imagenet_sorts_the_validation_images(tmp_path):
    zip_of(tmp_path / 'tiny-imagenet-200.zip', TINY)
    command = (CONVERTERS / 'tiny_imagenet.py', 'tiny-imagenet-200.zip')
    run(*command, cwd=tmp_path)
    out = tmp_path / 'data' / 'tiny_imagenet'
    assert files_in(out) == TINY_WRITTEN
    assert 'is there already' in run(*command, cwd=tmp_path)
    folders = {f'part/{name}': jpeg() for name in TINY_WRITTEN}
    tar_of(tmp_path / 'part.tar', folders)
    run(CONVERTERS / 'tiny_imagenet.py', 'part.tar', '--out', 'part',
        cwd=tmp_path)
    assert files_in(tmp_path / 'part') == TINY_WRITTEN
    tar_of(tmp_path / 'more.tar', {
        # Not in the order of their names, as folders in an archive may be.
        'part/train/n1/n1_1.JPEG': jpeg(), 'part/train/n2/n2_1.JPEG': jpeg(),
        'part/val/n2/val_2.JPEG': jpeg(), **folders})
    few = (CONVERTERS / 'tiny_imagenet.py', 'more.tar', '--out', 'few',
           '--num-train')
    out = run(*few, 1, cwd=tmp_path, ok=False)
    assert 'there are 2; take a multiple' in out and 'Traceback' not in out
    run(*few, 2, cwd=tmp_path)
    assert files_in(tmp_path / 'few') == [*TINY_WRITTEN, 'val/n2/val_2.JPEG']


def lspet(people=6, hidden=True):
    joints = np.random.default_rng(0).uniform(5, 40, (14, 3, people))
    joints[:, 2] = 1
    if hidden:
        joints[3, :, 0] = (-7, -7, 0)
    mat = io.BytesIO()
    savemat(mat, dict(joints=joints))
    files = {f'images/im{i + 1:05d}.jpg': jpeg(60, 48) for i in range(people)}
    return dict(files, **{'joints.mat': mat.getvalue()}), joints


def test_lspet_becomes_coco(tmp_path):
    files, joints = lspet()
    zip_of(tmp_path / 'lspet_dataset.zip', files)
    run(CONVERTERS / 'lspet.py', 'lspet_dataset.zip', cwd=tmp_path)
    out = tmp_path / 'data' / 'lspet'
    splits = [json.loads((out / 'annotations' / f'lspet_{split}.json')
                         .read_text()) for split in ('train', 'val')]
    assert [len(split['annotations']) for split in splits] == [3, 3]
    first = splits[0]['annotations'][0]
    assert first['num_keypoints'] == 13
    keypoints = np.reshape(first['keypoints'], (14, 3))
    assert keypoints[3].tolist() == [0, 0, 0]
    others = np.delete(np.arange(14), 3)
    np.testing.assert_allclose(
        keypoints[others, :2], joints[others, :2, 0], atol=0.006)
    x, y, width, height = first['bbox']
    low, high = joints[others, :2, 0].min(0), joints[others, :2, 0].max(0)
    assert x < low[0] and y < low[1]
    assert x + width > high[0] and y + height > high[1]
    assert x >= 0 and x + width <= 60 and y + height <= 48


def test_lspets_config_reads_it_and_swaps_left_and_right(tmp_path):
    zip_of(tmp_path / 'lspet_dataset.zip', lspet(hidden=False)[0])
    run(CONVERTERS / 'lspet.py', 'lspet_dataset.zip', cwd=tmp_path)
    from mmpose.registry import DATASETS
    from mmpose.utils import register_all_modules

    import ausam_mm  # noqa: F401
    register_all_modules()
    cfg = Config.fromfile(
        ROOT / 'configs/pose/lspet/simcc_res18_b32_lspet-128x96.py')
    data = cfg.train_dataloader.dataset
    data.data_root = str(tmp_path / 'data' / 'lspet')
    dataset = DATASETS.build(data)
    assert len(dataset) == 3 and dataset.metainfo['dataset_name'] == 'lspet'
    names = [dataset.metainfo['keypoint_id2name'][i] for i in range(14)]
    flipped = [names[i] for i in dataset.metainfo['flip_indices']]
    for name, other in zip(names, flipped):
        swapped = name.replace('left', 'L').replace('right', 'left').replace(
            'L', 'right')
        assert other == swapped
    assert tuple(dataset[0]['inputs'].shape) == (3, 128, 96)


def test_images_of_imagenets_size_are_what_mmpretrain_reads(tmp_path):
    tar_of(tmp_path / 'photographs.tar', {
        'some/a.jpg': jpeg(640, 480), 'some/b.JPG': jpeg(600, 900),
        'some/small.jpg': jpeg(499, 900), 'some/notes.txt': b'no image'})
    out = run(CONVERTERS / 'imagenet_size.py', 'photographs.tar',
              '--num-train', 5, '--num-val', 2, '--num-classes', 3,
              cwd=tmp_path)
    assert '2 photographs' in out
    from mmpretrain.datasets import ImageNet
    root = tmp_path / 'data' / 'imagenet_size'
    data = ImageNet(str(root), split='train')
    assert [data[i]['gt_label'] for i in range(5)] == [0, 1, 2, 0, 1]
    images = [cv2.imread(data[i]['img_path']) for i in range(5)]
    assert {image.shape for image in images} == {(375, 500, 3)}
    assert not np.array_equal(*images[:2])
    # There are two, so that they come again.
    np.testing.assert_array_equal(images[0], images[2])
    assert len(ImageNet(str(root), split='val')) == 2


@pytest.mark.parametrize('files,message', [
    ({'a.jpg': jpeg(499, 900)}, 'has no image of 500x375 pixels or more'),
    ({'a.jpg': b'torn'}, 'a.jpg is no image'),
    (None, 'is damaged, or another kind of file'),
])
def test_photographs_that_do_not_do(files, message, tmp_path):
    path = tmp_path / 'photographs.tar'
    if files is None:
        path.write_bytes(b'no archive')
    else:
        tar_of(path, files)
    out = ' '.join(run(CONVERTERS / 'imagenet_size.py', path, '--out', 'out',
                       cwd=tmp_path, ok=False).split())
    assert message in out and 'Traceback' not in out
    assert not (tmp_path / 'out').exists()


def without(files, part):
    return {name: content for name, content in files.items()
            if part not in name}


DAMAGED = [
    ('tiny_imagenet.py', without(TINY, 'annotations'),
     'has no val/val_annotations.txt'),
    ('tiny_imagenet.py', without(TINY, 'train/n1'),
     '1 classes to train and 2 to validate'),
    ('tiny_imagenet.py', dict(TINY, **{
        'tiny-imagenet-200/train/n1/images/n1_0.JPEG': b'torn'}),
     'n1_0.JPEG is no image'),
    ('tiny_imagenet.py', None, 'is damaged, or another .*download'),
    ('lspet.py', without(lspet()[0], 'joints.mat'), 'has no joints.mat'),
    ('lspet.py', without(lspet()[0], 'im00002'), 'it is not whole'),
    ('lspet.py', None, 'is damaged, or another .*download'),
]


@pytest.mark.parametrize('converter,files,message', DAMAGED)
def test_damaged_sources_are_said_and_leave_nothing(
        converter, files, message, tmp_path):
    path = tmp_path / 'archive.zip'
    if files is None:
        path.write_bytes(b'no archive')
    else:
        zip_of(path, files)
    output = ' '.join(run(CONVERTERS / converter, path, '--out', 'out',
                          cwd=tmp_path, ok=False).split())
    assert 'Traceback' not in output
    assert re.search(message, output), output
    assert not (tmp_path / 'out').exists()


def test_cifar_from_an_official_archive(tmp_path, monkeypatch):
    """Its layout and checksums; the images are made up."""
    monkeypatch.syspath_prepend(str(CONVERTERS))
    import cifar
    kind, base = cifar.CIFAR10, cifar.CIFAR10.base_folder
    images = np.random.default_rng(0).integers(
        0, 255, (7, 3, 32, 32), 'uint8')
    files = {'batches.meta': dict(label_names=['cat', 'dog'])}
    for i, name in enumerate([n for n, _ in kind.train_list] + ['test_batch']):
        files[name] = dict(data=images[i:i + 1].reshape(1, -1), labels=[i % 2])
    files = {name: pickle.dumps(content) for name, content in files.items()}
    archive = tmp_path / kind.filename
    with tarfile.open(archive, 'w:gz') as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(f'{base}/{name}')
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))

    def md5(content):
        return hashlib.md5(content).hexdigest()

    monkeypatch.setattr(kind, 'tgz_md5', md5(archive.read_bytes()))
    for listed in ('train_list', 'test_list'):
        monkeypatch.setattr(kind, listed, [
            [name, md5(files[name])] for name, _ in getattr(kind, listed)])
    monkeypatch.setattr(kind, 'meta', dict(
        kind.meta, md5=md5(files['batches.meta'])))
    cifar.write_cifar(archive, tmp_path / 'out', num_train=0)
    assert files_in(tmp_path / 'out') == [
        'train/cat/00000.png', 'train/cat/00002.png', 'train/cat/00004.png',
        'train/dog/00001.png', 'train/dog/00003.png', 'val/dog/00000.png']
    written = cv2.imread(str(tmp_path / 'out/train/dog/00003.png'))
    np.testing.assert_array_equal(
        written[:, :, ::-1], images[3].transpose(1, 2, 0))


def write_camvid(folder, classes=12):
    """Two images of each split, and masks with all classes and none."""
    for split in ('train', 'val', 'test'):
        for kind in (split, f'{split}annot'):
            (folder / kind).mkdir(parents=True)
        for i in range(2):
            (folder / split / f'{i}.png').write_bytes(
                cv2.imencode('.png', np.full((36, 48, 3), i, np.uint8))[1])
            (folder / f'{split}annot' / f'{i}.png').write_bytes(
                cv2.imencode('.png', np.random.default_rng(i).integers(
                    0, classes, (36, 48), 'uint8'))[1])
    return folder


def test_camvid_is_made_small_and_ignores_what_has_no_class(tmp_path):
    source = write_camvid(tmp_path / 'CamVid')
    run(CONVERTERS / 'camvid.py', source, '--width', 24, cwd=tmp_path)
    out = tmp_path / 'data' / 'camvid'
    assert files_in(out) == [
        f'{kind}/{split}/{i}.png' for kind in ('images', 'masks')
        for split in ('test', 'train', 'val') for i in range(2)]
    image = cv2.imread(str(out / 'images' / 'val' / '1.png'))
    assert image.shape == (18, 24, 3) and (image == 1).all()
    mask = cv2.imread(str(out / 'masks' / 'val' / '1.png'), -1)
    whole = cv2.imread(str(source / 'valannot' / '1.png'), -1)
    expected = np.where(whole == 11, 255, whole)[::2, ::2]
    assert (mask == expected).all() and 255 in mask


@pytest.mark.parametrize('damage,message', [
    (lambda folder: (folder / 'valannot' / '1.png').unlink(),
     'lacks valannot/1.png: it is not whole'),
    (lambda folder: write_camvid(folder / 'other', 33),
     'classes up to 32'),
    (lambda folder: [path.unlink() for path in folder.glob('test/*')],
     'has no images in test/')])
def test_a_camvid_that_is_not_whole_is_said_to_be_so(
        damage, message, tmp_path):
    source = write_camvid(tmp_path / 'CamVid')
    damage(source)
    source = source / 'other' if (source / 'other').exists() else source
    out = run(CONVERTERS / 'camvid.py', source, cwd=tmp_path, ok=False)
    assert message in ' '.join(out.split()) and 'Traceback' not in out
    assert not (tmp_path / 'data' / 'camvid').exists()


def people_of_coco(width, height):
    image = dict(id=7, file_name='000000000007.jpg', width=width,
                 height=height, source='x')
    people = [dict(id=i, image_id=7, category_id=1, iscrowd=i, area=50.,
                   bbox=[width / 2, height / 4, 8., 12.], keypoints=[0] * 51)
              for i in range(2)]
    return json.dumps(dict(images=[image], annotations=people)).encode()


def test_people_of_coco_are_scaled_with_their_boxes(tmp_path):
    """To a longest side of 160 pixels; crowds stay crowds."""
    whole = {'c/images/000000000007.jpg': jpeg(320, 200),
             'c/annotations/coco17_train.json': people_of_coco(320, 200),
             'c/annotations/coco17_val.json': people_of_coco(320, 200)}
    convert = CONVERTERS / 'coco_people.py'
    for name, message in (
            ('c/images/000000000007.jpg', 'lacks the image 000000000007.jpg'),
            ('c/annotations/coco17_val.json', 'has no annotations/coco17_tr')):
        part = {key: value for key, value in whole.items() if key != name}
        tar_of(tmp_path / 'part.tar', part)
        assert message in ' '.join(run(
            convert, 'part.tar', cwd=tmp_path, ok=False).split())
    tar_of(tmp_path / 'people.tar', whole)
    run(convert, 'people.tar', cwd=tmp_path)
    out = tmp_path / 'data' / 'coco_people_boxes'
    for part in ('train', 'val'):
        coco = json.loads(
            (out / 'annotations' / f'people_{part}.json').read_text())
        assert coco['images'] == [dict(
            id=7, file_name='000000000007.png', width=160, height=100)]
        first, crowd = coco['annotations']
        assert first['bbox'] == [80., 25., 4., 6.] and first['area'] == 12.5
        assert (first['iscrowd'], crowd['iscrowd']) == (0, 1)
    assert cv2.imread(
        str(out / 'images' / '000000000007.png')).shape == (100, 160, 3)
