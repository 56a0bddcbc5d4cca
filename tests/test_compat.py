"""Importing what is there, and only when it is asked for."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.utils import digit_version

import ausam_mm

ROOT = Path(__file__).parents[1]


def run(code, *path):
    env = {**os.environ,
           'PYTHONPATH': os.pathsep.join([str(ROOT), *map(str, path)])}
    result = subprocess.run([sys.executable, '-W', 'ignore', '-c', code],
                            env=env, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip().splitlines()


def test_importing_the_package_imports_only_what_every_training_needs():
    out = run("""
import sys, mmengine.runner
before = {name.split('.')[0] for name in sys.modules}
import ausam_mm
print(*sorted({name.split('.')[0] for name in sys.modules} - before))
print(*(f'ausam_mm.{name}' for name in ('analysis', 'quantization', 'report',
        'xtcocotools') if f'ausam_mm.{name}' in sys.modules))
""")
    new = set(out[0].split())
    assert 'ausam_mm' in new
    assert not new & {'mmcv', 'mmdet', 'mmpose', 'mmpretrain', 'mmseg',
                      'onnx', 'pycocotools', 'scipy', 'sklearn', 'timm',
                      'pytorchcv', 'torchvision', 'matplotlib'}
    assert out[1:] == []


@pytest.mark.parametrize('hidden', ['mmpretrain', 'mmpose'])
def test_either_library_may_be_absent(hidden):
    out = run(f"""
import sys
sys.modules['{hidden}'] = None   # importing it raises ImportError
import torch, ausam_mm
from tests.toy import build, batch, wrap
model = build()
model.train_step(batch(), wrap(model, type='AUSAM'))
print('trained')
""")
    assert out[-1] == 'trained'


MISSING = """
import importlib.util, sys
if importlib.util.find_spec('mmcv._ext'):
    print('installed'); sys.exit()
"""


def test_mmpose_is_importable_and_the_stand_ins_are_gone_afterwards():
    out = run(MISSING + """
absent = ['mmcv.ops'] + ['mmdet'] * (not importlib.util.find_spec('mmdet'))
import ausam_mm, mmpose.models
for name in absent:
    print(name in sys.modules)
    try:
        __import__(name); print('visible')
    except ImportError:
        print('gone')
""")
    assert out == ['installed'] or set(out) == {'False', 'gone'}


def test_building_a_model_that_needs_ops_names_the_package():
    out = run(MISSING + """
import ausam_mm
from mmengine.registry import init_default_scope
init_default_scope('mmpose')
from mmpose.models.heads.transformer_heads.transformers import (
    deformable_detr_layers as layers)
try:
    layers.DeformableDetrTransformerEncoderLayer()
except ImportError as error:
    print(error)
""")
    assert out == ['installed'] or out == [
        'mmcv.ops.MultiScaleDeformableAttention is needed here: install mmcv '
        'with compiled ops (the full `mmcv`, not `mmcv-lite`).']


def test_an_installed_package_is_left_alone(tmp_path):
    """A real mmdet is what mmpose gets."""
    package = tmp_path / 'mmdet'
    package.mkdir()
    (package / '__init__.py').write_text('')
    (package / 'utils.py').write_text(
        'class ConfigType: pass\ndef reduce_mean(x): return "real"\n')
    out = run(
        'import ausam_mm, mmpose.models;'
        'from mmpose.models.heads.hybrid_heads import rtmo_head;'
        'print(rtmo_head.reduce_mean(1))', tmp_path)
    assert out[-1] == 'real'


class Reaching:
    """Pickled as a call of getattr."""

    def __init__(self, owner, name):
        self.call = owner, name

    def __reduce__(self):
        return getattr, self.call


@pytest.mark.skipif(
    digit_version(torch.__version__) < digit_version('2.6'),
    reason='torch.load reads everything by default before PyTorch 2.6')
def test_mmengines_history_loads_and_a_call_of_anything_else_does_not(
        tmp_path):
    # MMEngine's loader takes its own names back after each checkpoint.
    ausam_mm.compat.install()
    history = HistoryBuffer([1., 2., 4.], [1, 1, 2])
    torch.save(dict(history=history, colors=np.ones(3, 'uint8')),
               tmp_path / 'good.pth')
    loaded = torch.load(tmp_path / 'good.pth', weights_only=True)
    assert loaded['history'].mean() == history.mean() == 7 / 4
    assert loaded['colors'].dtype == np.uint8
    for owner, name in ((HistoryBuffer, '__init__'), (np.ndarray, 'tofile')):
        torch.save(Reaching(owner, name), tmp_path / 'bad.pth')
        with pytest.raises(Exception, match='may not name'):
            torch.load(tmp_path / 'bad.pth', weights_only=True)
