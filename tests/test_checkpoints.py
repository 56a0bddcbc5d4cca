"""What a checkpoint may hold, and what is refused."""

import contextlib
import copy
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.evaluator import BaseMetric
from mmengine.logging import HistoryBuffer
from mmengine.registry import METRICS
from mmengine.runner import CheckpointLoader
from mmengine.utils import digit_version
from torch import nn

from ausam_mm import UntrustedCheckpointError, checkpoint_loading

from .runs import Samples, runner
from .toy import ToyModel

pytestmark = pytest.mark.skipif(
    digit_version(torch.__version__) < digit_version('2.6'),
    reason='nothing is loaded without trust before PyTorch 2.6')

OPEN = f'{open.__module__}.open'  # io.open; from Python 3.13 on _io.open


class Payload:
    """Opens a file for writing, when it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return open, (str(self.marker), 'w')


def save_payload(path, marker, **content):
    """Writes a checkpoint that touches a marker."""
    torch.save(dict(content, extra=Payload(marker)), path)
    return path


def save_pickle(path, content):
    """Writes a checkpoint with the opcodes of another pickle."""
    torch.save({}, path)
    with zipfile.ZipFile(path) as empty:
        records = {name: empty.read(name) for name in empty.namelist()}
    with zipfile.ZipFile(path, 'w') as file:
        for name, record in records.items():
            file.writestr(
                name, content if name.endswith('data.pkl') else record)
    return path


def opcode(*parts):
    """Opcodes of a pickle: of globals ('c'), of text, or as they are."""
    return b''.join(
        b'X' + struct.pack('<I', len(part)) + part.encode()
        if isinstance(part, str) else part for part in parts)


def load(path):
    """Loads as MMEngine does."""
    return CheckpointLoader.load_checkpoint(str(path), 'cpu', None)


class Predictor(ToyModel):
    """A model that can be validated, and start from a checkpoint."""

    def __init__(self, init_cfg=None):
        super().__init__()
        self.init_cfg = init_cfg

    def forward(self, inputs, data_samples=None, mode='tensor'):
        if mode == 'predict':
            return data_samples
        return super().forward(inputs, data_samples, mode)


@METRICS.register_module(force=True)
class Score(BaseMetric):
    """A number of numpy's, which MMEngine keeps as the best one."""

    def process(self, data_batch, data_samples):
        self.results.append(1.)

    def compute_metrics(self, results):
        return dict(score=np.float64(len(results)))


# As mmpose's data sets have it.
METAINFO = dict(
    classes=('left', 'right'), names=np.array(['left', 'right']),
    sigmas=np.full(2, .5, 'float32'), links=np.zeros((0, 2), int),
    colors=np.asfortranarray(np.arange(6, dtype='uint8').reshape(2, 3)),
    swapped=np.arange(3, dtype='>i4'), scale=np.float32(2.5))


def same(left, right):
    """Whether two checkpoints are equal, in types, too."""
    if isinstance(right, HistoryBuffer):
        return type(left) is type(right) and same(vars(left), vars(right))
    if isinstance(right, dict):
        return type(left) is type(right) and left.keys() == right.keys() and \
            all(same(left[key], right[key]) for key in right)
    if isinstance(right, (list, tuple)):
        return type(left) is type(right) and len(left) == len(right) and all(
            map(same, left, right))
    if isinstance(right, torch.Tensor):
        return torch.equal(left, right)
    if isinstance(right, np.ndarray):
        return isinstance(left, np.ndarray) and left.dtype == right.dtype and \
            left.shape == right.shape and np.array_equal(left, right)
    return type(left) is type(right) and left == right


def test_all_that_mmengine_writes_loads_and_is_saved_as_it_was(
        tmp_path, monkeypatch):
    monkeypatch.setattr(Samples, 'metainfo', METAINFO, raising=False)
    run = runner(
        tmp_path, dict(type='AUSAM', rho=0.05), length=2, model=Predictor(),
        val_dataloader=dict(
            batch_size=8, num_workers=0, dataset=Samples(),
            sampler=dict(type='DefaultSampler'),
            collate_fn=dict(type='pseudo_collate')),
        val_cfg=dict(), val_evaluator=dict(type='Score'),
        custom_hooks=[dict(type='EMAHook')])
    run.param_schedulers = [
        dict(type='OneCycleLR', eta_max=0.1, total_steps=4, by_epoch=True),
        dict(type='OneCycleLR', eta_max=0.1, total_steps=4, by_epoch=True,
             anneal_strategy='linear'),
        dict(type='ReduceOnPlateauLR', monitor='score')]
    run.train()
    path = tmp_path / 'epoch_2.pth'
    expected = torch.load(path, weights_only=False)
    assert expected['ema_state_dict'] and expected['param_schedulers']
    assert 'val/score' in expected['message_hub']['log_scalars']
    assert expected['meta']['dataset_meta'].keys() == METAINFO.keys()
    with checkpoint_loading():
        loaded = load(path)
    assert same(loaded, expected)
    torch.save(loaded, tmp_path / 'again.pth')
    with zipfile.ZipFile(tmp_path / 'again.pth') as file:
        assert b'ausam_mm.' not in file.read('again/data.pkl')
    assert same(torch.load(tmp_path / 'again.pth', weights_only=False),
                expected)
    history = loaded['message_hub']['log_scalars']['train/loss']
    assert type(history.mean()) is type(history.current()) is np.float64
    assert type(copy.deepcopy(history).max(2)) is np.float64
    history.update(1.)
    assert type(history.data[0]) is np.ndarray


@pytest.mark.parametrize('zipped', [True, False])
def test_published_weights_load(zipped, tmp_path):
    """With text and numbers, in the format before PyTorch 1.6, too."""
    weights = Predictor().state_dict()
    content = dict(state_dict=weights, meta=dict(
        CLASSES=['cat', 'dog'], config='model = dict()', epoch=100, lr=[0.1],
        env_info='PyTorch: 1.5.0', hook_msgs=dict(best=np.float64(0.5))))
    path = tmp_path / 'published.pth'
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    with checkpoint_loading():
        loaded = load(path)
    assert same(loaded, content)
    assert loaded['state_dict']._metadata == weights._metadata


def test_what_could_run_code_is_refused_by_its_name(tmp_path):
    path = save_payload(tmp_path / 'bad.pth', tmp_path / 'marker')
    with checkpoint_loading(), pytest.raises(
            UntrustedCheckpointError) as caught:
        load(path)
    assert str(caught.value) == (
        f'{path} was not loaded, because it could run code: it asks for '
        f'{OPEN}. If you trust where it comes from, load it in '
        'checkpoint_loading(trust=True).')
    assert not (tmp_path / 'marker').exists()
    with checkpoint_loading(trust=True):
        load(path)
    assert (tmp_path / 'marker').exists()


@pytest.mark.parametrize('options', [
    {}, dict(weights_only=False), dict(weights_only=None),
    dict(mmap=True, weights_only=False)])
def test_whoever_loads_cannot_lift_the_restriction(options, tmp_path):
    path = save_payload(tmp_path / 'bad.pth', tmp_path / 'marker')
    with checkpoint_loading(), pytest.raises(UntrustedCheckpointError):
        torch.load(path, **options)
    with checkpoint_loading(), open(path, 'rb') as file, pytest.raises(
            UntrustedCheckpointError, match='^A checkpoint was not loaded'):
        torch.load(file, **dict(options, mmap=None))
    assert not (tmp_path / 'marker').exists()


def test_a_downloaded_file_is_no_exception(tmp_path, monkeypatch):
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    monkeypatch.setattr('torch.hub._hub_dir', None)
    folder = tmp_path / 'hub' / 'checkpoints'  # where downloads are kept
    folder.mkdir(parents=True)
    save_payload(folder / 'bad.pth', tmp_path / 'marker')
    with checkpoint_loading(), pytest.raises(
            UntrustedCheckpointError, match=rf'bad\.pth .* asks for {OPEN}'):
        load('https://example.com/bad.pth')
    assert not (tmp_path / 'marker').exists()


def test_getattr_reaches_nothing_but_methods_of_mmengine(tmp_path):
    """As MMEngine allows it, getattr puts exec in the place of type."""
    marker = tmp_path / 'marker'

    def get(owner, name):
        return opcode(b'cbuiltins\ngetattr\n', owner, name, b'\x86R')

    builtins = get(b'cbuiltins\ngetattr\n', '__self__')
    code = ('__builtins__["type"] = (1).__class__.__class__; '
            f'open({str(marker)!r}, "w")')
    path = save_pickle(tmp_path / 'bad.pth', opcode(
        b'\x80\x02', get(builtins, '__dict__'), 'type', get(builtins, 'exec'),
        b's', code, b'Q.'))
    with checkpoint_loading(), pytest.raises(
            UntrustedCheckpointError,
            match="may not name the attribute '__self__'"):
        load(path)
    assert not marker.exists()
    with checkpoint_loading(trust=True), contextlib.suppress(Exception):
        load(path)
    assert marker.exists()


def save_array(path, code, state):
    """Writes a checkpoint with an array of a dtype with any state."""

    class Dtype:

        def __reduce__(self):
            return np.dtype, (code, False, True), state

    class Array:

        def __reduce__(self):
            return np.zeros(0).__reduce__()[:2] + (
                (1, (2, ), Dtype(), False, b'\x41' * 16), )

    torch.save(dict(array=Array()), path)
    return path


def test_bytes_are_never_taken_for_pointers(tmp_path):
    """A dtype of numpy's believes these flags, and copying crashes."""
    pointers = (3, '<', None, None, None, -1, -1, 1)
    path = save_array(tmp_path / 'flags.pth', 'f8', pointers)
    with checkpoint_loading():
        array = load(path)['array']
    assert array.dtype == np.float64 and not array.dtype.hasobject
    assert np.array_equal(copy.deepcopy(array), np.frombuffer(b'\x41' * 16))
    path = save_array(tmp_path / 'objects.pth', 'O8', None)
    with checkpoint_loading(), pytest.raises(
            UntrustedCheckpointError, match=r"a numpy\.dtype of 'O8'"):
        load(path)
    path = save_array(tmp_path / 'long.pth', 'f4', None)
    with checkpoint_loading(), pytest.raises(ValueError, match='reshape'):
        load(path)


def test_other_files_that_run_code_are_refused_in_a_sentence(tmp_path):
    bad = Payload(tmp_path / 'marker')
    torch.jit.script(nn.Linear(1, 1)).save(tmp_path / 'script.pth')
    (tmp_path / 'pickle.pth').write_bytes(pickle.dumps(bad, protocol=4))
    torch.save(bad, tmp_path / 'old.pth', _use_new_zipfile_serialization=False)
    for name, reason in (('script', 'TorchScript archives'),
                         ('pickle', 'Unsupported operand 149'),
                         ('old', f'it asks for {OPEN}')):
        path = tmp_path / f'{name}.pth'
        with checkpoint_loading(), pytest.raises(
                UntrustedCheckpointError,
                match=f'could run code: [^.\n]*{reason}') as caught:
            load(path)
        assert '\n' not in str(caught.value)
    assert not bad.marker.exists()


class Mine:
    """A class of the user's."""


def test_what_the_user_allows_loads_but_not_numpys_own_classes(tmp_path):
    path = tmp_path / 'mine.pth'
    torch.save(dict(mine=Mine(), array=np.ones(2)), path)
    with checkpoint_loading(), pytest.raises(
            UntrustedCheckpointError, match='test_checkpoints.Mine'):
        load(path)
    allowed = [Mine, np.dtype, np.ndarray, getattr, type(np.dtype('f8'))]
    with checkpoint_loading(), torch.serialization.safe_globals(allowed):
        loaded = torch.load(path)
        assert set(allowed) <= set(torch.serialization.get_safe_globals())
    assert type(loaded['mine']) is Mine and loaded['array'].sum() == 2


def test_errors_that_are_no_refusal_stay_what_they_are(tmp_path):
    torch.save(dict(weight=torch.rand(1000)), tmp_path / 'whole.pth')
    path = tmp_path / 'half.pth'
    path.write_bytes((tmp_path / 'whole.pth').read_bytes()[:1000])
    before = torch.load, set(torch.serialization.get_safe_globals())
    with checkpoint_loading():
        with pytest.raises(RuntimeError, match='central directory'):
            torch.load(path)
        with pytest.raises(FileNotFoundError):
            torch.load(tmp_path / 'none.pth')
        torch.load(tmp_path / 'whole.pth')
    after = torch.load, set(torch.serialization.get_safe_globals())
    assert after == before


def test_nothing_is_loaded_without_trust_before_pytorch_2_6(
        tmp_path, monkeypatch):
    torch.save({}, tmp_path / 'good.pth')
    monkeypatch.setattr(torch, '__version__', '2.5.1')
    with checkpoint_loading(), pytest.raises(
            UntrustedCheckpointError, match=r'before PyTorch 2\.6'):
        torch.load(tmp_path / 'good.pth')
    with checkpoint_loading(trust=True):
        assert torch.load(Path(tmp_path) / 'good.pth') == {}
