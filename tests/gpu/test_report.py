"""What `make gpu` runs: without a GPU, and its measuring on a small model."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.registry import OPTIM_WRAPPERS

from ..amp import CPUAmpOptimWrapper
from . import report as gpu

ROOT = Path(__file__).resolve().parents[2]


def test_make_gpu_says_one_sentence_without_a_gpu(tmp_path):
    page = gpu.PAGE.read_text()
    result = subprocess.run(
        [sys.executable, '-m', 'tests.gpu.report', '--tests'], cwd=tmp_path,
        capture_output=True, text=True,
        env={**os.environ, 'PYTHONPATH': str(ROOT),
             'CUDA_VISIBLE_DEVICES': ''})
    assert (result.returncode, result.stdout) == (0, f'{gpu.NO_GPU}\n')
    assert gpu.NO_GPU.count('.') == 1
    assert gpu.PAGE.read_text() == page


def test_the_makefile_has_the_target():
    lines = (ROOT / 'Makefile').read_text()
    assert '\ngpu: $(VENV)/.installed\n\t@$(BIN)/python -m tests.gpu.report ' \
        '--tests\n' in lines


class Amp(CPUAmpOptimWrapper):
    """With the arguments that MMEngine's own takes."""

    def __init__(self, loss_scale, **kwargs):
        assert loss_scale == 'dynamic'
        super().__init__(**kwargs)


@pytest.mark.slow
def test_the_table_of_a_small_model_goes_into_the_page(
        device, tmp_path, monkeypatch, capsys):
    if device == 'cpu':
        monkeypatch.setitem(
            OPTIM_WRAPPERS.module_dict, 'AmpOptimWrapper', Amp)
    precision = 'bfloat16' if device == 'cpu' else 'float16'
    page = tmp_path / 'gpu.md'
    page.write_text(gpu.PAGE.read_text())
    options = ['--device', device, '--quick', '--block', '1', '--page',
               str(page), '--precisions']
    gpu.main([*options, 'float32', precision])
    text = page.read_text()
    gpu.main([*options, 'float32', '--append', '--batch-size', '3'])
    both = page.read_text()
    assert both.partition('<!-- end -->')[0].startswith(
        text.partition('<!-- end -->')[0])
    assert 'batch 4,' in text and 'batch 3,' not in text
    assert 'batch 3,' in both
    start, _, rest = gpu.PAGE.read_text().partition('<!-- measured -->')
    assert text.startswith(start) and text.endswith(
        rest.partition('<!-- end -->')[2])
    assert 'No figures' not in text
    assert f'torch {torch.__version__}' in text
    name = torch.cuda.get_device_name() if device == 'cuda' else 'a CPU'
    assert f' on {name}' in text
    rows = [line for line in text.splitlines()
            if line.startswith(('| float32', f'| {precision}'))]
    assert len(rows) == 8
    assert rows[0].split(' | ')[1:2] + rows[0].split(' | ')[3:5] == [
        'OptimWrapper', '1.00', '1.00 - 1.00']
    assert 'AUSAM alpha=(0.25,0.75)' in rows[7]
    assert 'Written into' in capsys.readouterr().out
    gpu.write_page(page, 'Other figures.\n')
    assert page.read_text() == (
        f'{start}<!-- measured -->\nOther figures.\n<!-- end -->'
        f'{rest.partition("<!-- end -->")[2]}')


def test_the_page_says_how_figures_are_taken():
    page = gpu.PAGE.read_text()
    assert page.count('<!-- measured -->\n') == 1
    assert page.count('<!-- end -->') == 1
    assert 'make gpu' in page


@pytest.mark.parametrize('name', [*gpu.CASES, *gpu.QUICK])
def test_the_configs_of_the_report_build(name):
    path, options = {**gpu.CASES, **gpu.QUICK}[name]
    for setting in gpu.SETTINGS:
        cfg = gpu.read_config(str(path))
        kind, *_ = setting.split()
        cfg = gpu.configure(cfg, setting, 'float16', options)
        wrapper = cfg.optim_wrapper
        assert wrapper.get('base', wrapper).dtype == 'float16'
        assert wrapper.type == (
            'AmpOptimWrapper' if kind == 'OptimWrapper' else kind)
        assert wrapper.get('warmup_iters', 1) == 1
