"""Every config is built as it is and trains two steps, on made-up images."""

import math
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper
from mmengine.registry import (
    OPTIM_WRAPPERS,
    DefaultScope,
    init_default_scope,
)
from mmengine.runner import Runner
from torch.utils.data import Dataset

from ausam_mm import AUSAM, SAM, InfoBatchHook, InfoBatchSampler

ROOT = Path(__file__).parents[1]
CONFIGS = sorted(
    path for path in (ROOT / 'configs').glob('*/*/*.py')
    if path.parts[-3] != '_base_')
# Of mmdet and albumentations, in RTMPose's config.
FOREIGN = ('mmdet.YOLOXHSVRandomAug', 'Albumentation',
           'mmdet.PipelineSwitchHook')
# The methods as file names have them; the controls are AUSAM's.
WRAPPERS = {
    name.lower(): kind for name, kind in OPTIM_WRAPPERS.module_dict.items()
    if kind.__module__.startswith('ausam_mm.')}
METHOD = re.compile(f'_({"|".join(WRAPPERS)})(-uniform|-loss|-60|-25-75)?_')
METHODS = [path for path in CONFIGS if METHOD.search(path.stem)]
SIMCC = ROOT / 'configs/pose/figures/simcc_res18-c16_b64_figures-64x64.py'


def trainings():
    """Configs and the wrappers to put into them, None for their own.

    Of a model plain, with SAM and with AUSAM, AUSAM stands for all: that they
    differ in the wrapper alone is tested of every one.
    """
    with_ausam = {METHOD.sub('_', path.name) for path in METHODS}
    for path in CONFIGS:
        method = METHOD.search(path.stem)
        if path == SIMCC:
            yield from ((path, name) for name in (None, *WRAPPERS))
        elif path.parent.name in ('digits', 'figures'):
            yield from ((path, name) for name in (None, 'sam', 'ausam'))
        elif path.name not in with_ausam and not (
                method and method[1] == 'sam'):
            yield path, None if method or '_infobatch_' in path.stem \
                else 'ausam'


# The small models train in a moment.
TRAININGS = [
    pytest.param(*training, marks=() if '-c16' in training[0].stem
                 else pytest.mark.slow) for training in trainings()]


class MadeUp(Dataset):
    """Four images that go through the config's own pipeline.

    Args:
        pipeline (list): The pipeline.
        image (Path): An image file.
        metainfo (dict): Of a pose data set; None for others.
        masks (bool): Whether they are for segmentation: files of their own.
        with_boxes (bool): Whether they have boxes.
    """

    def __init__(self, pipeline, image, metainfo=None, masks=False,
                 with_boxes=False):
        self.pipeline = Compose(pipeline)
        self.image = image
        self.masks = masks
        if masks:
            generator = np.random.default_rng(0)
            for i in range(len(self)):
                cv2.imwrite(str(image.with_name(f'{i}.png')),
                            generator.integers(0, 255, (64, 64, 3), 'uint8'))
            cv2.imwrite(str(image.with_name('mask.png')),
                        generator.integers(0, 5, (64, 64), 'uint8'))
        self.metainfo = metainfo
        self.with_boxes = with_boxes

    def __len__(self):
        return 4

    def __getitem__(self, i):
        sample = dict(img_path=str(self.image), img=cv2.imread(
            str(self.image)), gt_label=i, sample_idx=i)
        if self.masks:
            sample.update(
                img_path=str(self.image.with_name(f'{i}.png')),
                seg_map_path=str(self.image.with_name('mask.png')),
                seg_fields=[], label_map=None, reduce_zero_label=False)
        if self.with_boxes:
            sample.update(img_id=i, height=64, width=64, instances=[dict(
                bbox=[4, 4, 30 + 8 * i, 60], bbox_label=0, ignore_flag=0)])
        if self.metainfo:
            joints = self.metainfo['num_keypoints']
            points = np.random.default_rng(i).uniform(8, 56, (1, joints, 2))
            sample.update(
                id=i, img_id=i, keypoints=points.astype('float32'),
                keypoints_visible=np.ones((1, joints), 'float32'),
                bbox=np.array([[4., 4., 60., 60.]], 'float32'),
                bbox_score=np.ones(1, 'float32'), category_id=[1], **{
                    key: self.metainfo[key] for key in (
                        'upper_body_ids', 'lower_body_ids', 'flip_pairs',
                        'dataset_name', 'flip_indices', 'skeleton_links')})
        return self.pipeline(sample)


def offline(cfg):
    """The config without downloads and what is of other packages."""
    if isinstance(cfg, (list, tuple)):
        return type(cfg)(
            offline(value) for value in cfg if not isinstance(value, dict)
            or value.get('type') not in FOREIGN)
    if not isinstance(cfg, dict):
        return cfg
    return {key: None if key == 'init_cfg' and isinstance(value, dict)
            and value.get('type') == 'Pretrained' else offline(value)
            for key, value in cfg.items()}


class Verified(Hook):
    """Notes before each step whether AUSAM knows the loss's reduction."""

    def __init__(self):
        self.seen = []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.seen.append(getattr(
            runner.optim_wrapper, 'losses_verified', None))


def two_steps(config, wrapper, folder):
    """Trains one epoch of two batches.

    Args:
        config (Path): The config.
        wrapper (str, optional): The wrapper in place of the config's.
        folder (Path): The work dir.

    Returns:
        tuple: The Runner, the weights before and after, and whether the
        loss's reduction was known before each step.
    """
    cfg = Config(offline(Config.fromfile(config).to_dict()))
    init_default_scope(cfg.default_scope)
    torch.manual_seed(0)
    image = folder / 'image.jpg'
    cv2.imwrite(str(image), np.random.default_rng(0).integers(
        0, 255, (64, 64, 3), dtype='uint8'))
    data = cfg.train_dataloader.dataset
    data = data.get('dataset', data)  # in LabelNoise
    metainfo = None
    if cfg.default_scope == 'mmpose':
        from mmpose.datasets.datasets.utils import parse_pose_metainfo
        from mmpose.registry import DATASETS
        metainfo = parse_pose_metainfo(
            data.get('metainfo') or DATASETS.get(data.type).METAINFO)
    cfg.merge_from_dict(dict(
        train_cfg=dict(max_epochs=1), load_from=None,
        default_hooks=dict(checkpoint=dict(interval=10, save_best=None))))
    if wrapper:
        cfg.optim_wrapper.type = WRAPPERS[wrapper].__name__
    if cfg.optim_wrapper.get('type') == 'AUSAM':
        cfg.optim_wrapper.warmup_iters = 0
    runner = Runner(
        cfg.model, str(folder), train_cfg=cfg.train_cfg,
        train_dataloader=dict(
            dataset=MadeUp(data.pipeline, image, metainfo,
                           cfg.default_scope == 'mmseg',
                           cfg.default_scope == 'mmdet'),
            batch_size=2, num_workers=0,
            sampler=dict(cfg.train_dataloader.sampler),
            collate_fn=cfg.train_dataloader.get(
                'collate_fn', dict(type='pseudo_collate'))),
        optim_wrapper=cfg.optim_wrapper,
        param_scheduler=cfg.param_scheduler,
        data_preprocessor=cfg.get('data_preprocessor'),
        default_hooks=cfg.default_hooks,
        custom_hooks=cfg.get('custom_hooks'),
        experiment_name=config.stem, default_scope=cfg.default_scope,
        randomness=dict(seed=0))
    before = [p.detach().clone() for p in runner.model.parameters()]
    verified = Verified()
    runner.register_hook(verified)
    runner.train()
    return runner, before, list(runner.model.parameters()), verified.seen


@pytest.fixture
def scope():
    """Leaves no default scope behind."""
    yield
    DefaultScope._instance_dict.clear()


@pytest.mark.parametrize(
    ('config', 'wrapper'), TRAININGS,
    ids=lambda value: getattr(value, 'stem', value))
def test_every_config_trains_two_steps(config, wrapper, tmp_path, scope):
    if 'segmentation' in config.parts:
        pytest.importorskip('mmseg')
    if 'detection' in config.parts:
        pytest.importorskip('mmdet')
    runner, before, after, verified = two_steps(config, wrapper, tmp_path)
    assert runner.iter == 2
    assert all(torch.isfinite(p).all() for p in after)
    assert not all(torch.equal(*pair) for pair in zip(before, after))
    method = METHOD.search(config.stem)
    name = wrapper or (method and method[1])
    wrapper = runner.optim_wrapper
    assert type(wrapper) is (WRAPPERS[name] if name else OptimWrapper)
    if name:
        assert wrapper.num_steps == 2 and wrapper.samples_loaded == 4
        assert wrapper.skipped_perturbations == wrapper.skipped_steps == 0
    if type(wrapper) is AUSAM:
        # The loss's reduction is found out on full batches whose losses
        # differ, as those of a fresh model need not; of the second batch one
        # sample is selected then, and goes through twice.
        selected = 1 if verified[1] else 2
        assert wrapper.samples_backpropagated == 4 + 2 * selected
        keys = wrapper.history.state_dict()['keys']
        # A random subset needs to know none.
        assert len(keys) == (
            0 if wrapper.scores == 'uniform' else 2 + selected)
    elif type(wrapper) is SAM:
        assert wrapper.samples_backpropagated == 8
    sampler = runner.train_dataloader.sampler
    if '_infobatch_' in config.stem:
        assert type(sampler) is InfoBatchSampler
        assert any(type(hook) is InfoBatchHook for hook in runner.hooks)
    else:
        assert type(sampler) is not InfoBatchSampler
    assert wrapper.get_lr()['lr'][0] > 0
    assert math.isfinite(
        runner.message_hub.get_scalar('train/loss').current())


@pytest.mark.parametrize('config', METHODS, ids=lambda path: path.stem)
def test_a_methods_config_is_three_lines_over_the_base(config):
    lines = config.read_text().splitlines()
    assert len([
        line for line in lines if line.strip() and line[0] != '#']) == 2
    cfg = Config.fromfile(config, import_custom_modules=False)
    plain = Config.fromfile(
        config.with_name(METHOD.sub('_', config.name)),
        import_custom_modules=False)
    cfg.optim_wrapper, wrapper = plain.optim_wrapper, cfg.optim_wrapper
    assert cfg.to_dict() == plain.to_dict()
    assert wrapper.optimizer == plain.optim_wrapper.optimizer


@pytest.mark.parametrize(
    'page', [ROOT / 'README.md', *sorted((ROOT / 'docs').rglob('*.md'))],
    ids=lambda page: page.stem)
def test_every_config_that_a_page_names_exists(page):
    named = re.findall(
        r'\bconfigs/[\w./-]+\.py\b', page.read_text(encoding='utf-8'))
    assert [name for name in named if not (ROOT / name).is_file()] == []
