"""Crop, flip and cutout of a batch, against mmpretrain's, image by image."""

from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import MODELS, TRANSFORMS, init_default_scope
from scipy.stats import chi2_contingency

import ausam_mm  # noqa: F401
from ausam_mm.models import batch_augment

CONFIGS = Path(__file__).parents[2] / 'configs' / 'classification'
SIZE, NUM = 32, 2500
# Each pixel tells where it was; 0 is none of them.
ROWS, COLUMNS = np.meshgrid(*[np.arange(1, SIZE + 1)] * 2, indexing='ij')
PLACES = np.stack([ROWS, COLUMNS, ROWS * 0 + 200], -1).astype('uint8')


def one_by_one(image, *transforms):
    """What mmpretrain makes of an image, NUM times, shape (n, C, H, W)."""
    init_default_scope('mmpretrain')
    np.random.seed(1)
    pipeline = Compose([dict(transform) for transform in transforms])
    return np.stack([pipeline(dict(img=image.copy()))['img']
                     for _ in range(NUM)]).transpose(0, 3, 1, 2)


def at_once(image, *transforms):
    """The same by the transforms of a batch."""
    images = torch.from_numpy(image).permute(2, 0, 1).expand(NUM, -1, -1, -1)
    generator = torch.Generator().manual_seed(1)
    for transform in transforms:
        images = TRANSFORMS.build(transform)(images, generator)
    return images.numpy()


def assert_same_distribution(first, second):
    """Two samples of outcomes, each a row of integers."""
    outcomes, codes = np.unique(
        np.concatenate([first, second]), axis=0, return_inverse=True)
    counts = [np.bincount(part, minlength=len(outcomes))
              for part in np.split(codes.reshape(-1), 2)]
    # Rare ones, such as a cutout in one corner, together.
    rare = np.sum(counts, 0) < 10
    table = np.stack([np.append(part[~rare], part[rare].sum())
                      for part in counts])
    assert chi2_contingency(table[:, table.sum(0) > 0]).pvalue > 1e-3


def places(images):
    """Offset of the crop from the image, and whether it is mirrored."""
    middle = images[:, :, SIZE // 2, SIZE // 2 - 1:SIZE // 2 + 1].astype(int)
    flipped = middle[:, 1, 1] < middle[:, 1, 0]
    column = np.where(flipped, SIZE - middle[:, 1, 1], middle[:, 1, 1] - 1)
    rows = middle[:, 0, 1] - 1 - SIZE // 2
    return np.stack([rows, column - SIZE // 2, flipped], 1)


def boxes(images):
    """First and last filled row and column of each image, or -1."""
    filled = (images == 7).all(1)
    lines = [filled.any(2), filled.any(1)]
    found = [np.where(line.any(1), at(line), -1) for line in lines
             for at in (lambda x: x.argmax(1),
                        lambda x: SIZE - 1 - x[:, ::-1].argmax(1))]
    return np.stack(found, 1)


CROP, FLIP = dict(crop_size=SIZE, padding=4), dict(prob=0.3)


def test_crop_and_flip_are_distributed_as_image_by_image():
    batch = places(at_once(PLACES, dict(type='BatchRandomCrop', **CROP),
                           dict(type='BatchRandomFlip', **FLIP)))
    assert_same_distribution(batch, places(one_by_one(
        PLACES, dict(type='RandomCrop', **CROP),
        dict(type='RandomFlip', direction='horizontal', **FLIP))))
    assert len(np.unique(batch, axis=0)) == 9 * 9 * 2


@pytest.mark.parametrize('columns', [[0, 1], [2, 3]])
def test_cutout_is_distributed_as_image_by_image(columns):
    options = dict(shape=16, pad_val=7, prob=0.8)
    batch, single = (boxes(images)[:, columns] for images in (
        at_once(PLACES, dict(type='BatchCutout', **options)),
        one_by_one(PLACES, dict(type='Cutout', **options))))
    assert_same_distribution(batch, single)


def test_a_cutout_is_a_rectangle_with_the_value_of_each_channel():
    images = at_once(PLACES, dict(
        type='BatchCutout', shape=(4, 6), pad_val=(50, 60, 70), prob=1.))
    filled = (images == np.array([50, 60, 70]).reshape(1, 3, 1, 1)).all(1)
    assert filled.any(2).sum(1).max() == 4 and filled.any(1).sum(1).max() == 6
    assert (filled.sum((1, 2)) == filled.any(2).sum(1) *
            filled.any(1).sum(1)).all()
    kept = np.broadcast_to(PLACES.transpose(2, 0, 1), images.shape)
    outside = ~np.broadcast_to(filled[:, None], images.shape)
    assert (images == kept)[outside].all()


def test_each_crop_is_a_part_of_the_padded_image():
    images = at_once(PLACES, dict(
        type='BatchRandomCrop', crop_size=(24, 28), padding=3,
        pad_val=(9, 8, 7)))[:50]
    padded = np.empty((SIZE + 6, SIZE + 6, 3), 'uint8')
    padded[:] = (9, 8, 7)
    padded[3:-3, 3:-3] = PLACES
    padded = padded.transpose(2, 0, 1)
    parts = {padded[:, y:y + 24, x:x + 28].tobytes()
             for y in range(15) for x in range(11)}
    assert {image.tobytes() for image in images} <= parts
    assert len({image.tobytes() for image in images}) > 10


def preprocessor(**options):
    init_default_scope('mmpretrain')
    return MODELS.build(dict(
        type='BatchAugmentDataPreprocessor',
        preprocessor=dict(type='ClsDataPreprocessor', mean=[1.] * 3,
                          std=[2.] * 3),
        transforms=[dict(type='BatchRandomCrop', **CROP)], **options))


def test_images_are_augmented_in_training_only(batch_of_places):
    module = preprocessor(batch_augments=None)
    expected = (batch_of_places['inputs'].float() - 1) / 2
    assert torch.equal(module(batch_of_places)['inputs'], expected)
    trained = module(batch_of_places, True)['inputs']
    assert trained.shape == expected.shape
    assert not torch.equal(trained, expected)
    # The loader's batch is left as it came.
    assert torch.equal(module(batch_of_places)['inputs'], expected)


def test_randomness_is_that_of_the_seed_and_the_process(
        batch_of_places, monkeypatch):
    def augmented():
        torch.manual_seed(3)
        return preprocessor()(batch_of_places, True)['inputs']

    first = augmented()
    assert torch.equal(first, augmented())
    monkeypatch.setattr(batch_augment, 'get_rank', lambda: 1)
    assert not torch.equal(first, augmented())


def test_both_passes_of_a_step_see_the_same_images(batch_of_places):
    module = preprocessor()
    model = MODELS.build(dict(
        type='ImageClassifier', data_preprocessor=module,
        backbone=dict(type='ResNet_CIFAR', depth=18, stem_channels=2,
                      base_channels=2),
        neck=dict(type='GlobalAveragePooling'),
        head=dict(type='LinearClsHead', num_classes=10, in_channels=16)))
    seen = []
    model.backbone.register_forward_pre_hook(
        lambda module, args: seen.append(args[0].clone()))
    wrapper = ausam_mm.SAM(torch.optim.SGD(model.parameters(), lr=0.1))
    pack = Compose([dict(type='PackInputs')])
    samples = [pack(dict(img=PLACES, gt_label=i))['data_samples']
               for i in range(len(batch_of_places['inputs']))]
    model.train().train_step(
        dict(batch_of_places, data_samples=samples), wrapper)
    assert len(seen) == 2 and torch.equal(*seen)


@pytest.fixture
def batch_of_places():
    image = torch.from_numpy(PLACES).permute(2, 0, 1)
    return dict(inputs=image.expand(6, -1, -1, -1).contiguous())


@pytest.mark.parametrize('transform,words', [
    (dict(type='BatchRandomCrop', crop_size=0), 'is no size'),
    (dict(type='BatchRandomCrop', crop_size=8, padding=-1), 'at least 0'),
    (dict(type='BatchRandomFlip', prob=1.5), 'no probability'),
    (dict(type='BatchCutout', shape=4, prob=-1), 'no probability')])
def test_options_out_of_range_are_refused_at_once(transform, words):
    with pytest.raises(ValueError, match=words):
        TRANSFORMS.build(transform)


@pytest.mark.parametrize('transform,words', [
    (dict(type='BatchRandomCrop', crop_size=64), 'raise padding'),
    (dict(type='BatchCutout', shape=4, pad_val=(1, 2)), 'has 2 values')])
def test_images_that_do_not_fit_are_refused(transform, words):
    with pytest.raises(ValueError, match=words):
        at_once(PLACES, transform)


def test_a_list_of_images_is_refused(batch_of_places):
    images = [*batch_of_places['inputs']]
    with pytest.raises(ValueError, match='default_collate'):
        preprocessor()(dict(inputs=images), True)


@pytest.mark.parametrize('data', ['cifar10', 'cifar100'])
def test_the_config_differs_by_where_images_are_augmented_alone(data):
    plain, batch = (
        Config.fromfile(CONFIGS / data / f'resnet18_b256_{data}{suffix}.py',
                        import_custom_modules=False)
        for suffix in ('', '-batch-augment'))
    *pipeline, pack = plain.train_dataloader.dataset.pipeline
    assert batch.train_dataloader.dataset.pipeline == [pack]
    for ours, theirs in zip(
            batch.data_preprocessor.pop('transforms'), pipeline, strict=True):
        assert ours.pop('type') == f'Batch{theirs.pop("type")}'
        theirs.pop('direction', None)
        assert ours == theirs
    inner = batch.data_preprocessor.pop('preprocessor')
    inner.pop('type')
    assert inner == plain.data_preprocessor
    plain, batch = plain.to_dict(), batch.to_dict()
    for cfg in (plain, batch):
        for name in ('train_pipeline', 'data_preprocessor'):
            cfg.pop(name)
        cfg['train_dataloader'].pop('num_workers')
        cfg['train_dataloader']['dataset'].pop('pipeline')
    assert plain == batch
