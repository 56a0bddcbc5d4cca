"""Benchmarks that run as commands, on small cases."""

import json
import os
import subprocess
import sys

import pytest

from ..tools.test_tools import ROOT

pytestmark = pytest.mark.slow


def run(name, *arguments, cwd):
    """The output of ``python -m benchmarks.<name>``, in another folder."""
    result = subprocess.run(
        [sys.executable, '-W', 'ignore', '-m', f'benchmarks.{name}',
         *map(str, arguments)], cwd=cwd, capture_output=True, text=True,
        env={**os.environ, 'PYTHONPATH': str(ROOT)})
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.mark.parametrize('name,arguments,words', [
    ('history_cost', ('--sizes', 100, '--steps', 2, '--batch-size', 10),
     'SampleHistory, batch 10'),
    ('sampler_cost', ('--sizes', 100, '--steps', 2, '--batch-size', 10),
     'AUSAMBatchSampler, batch 10'),
    ('checks', ('--cases', 'ResNet-18 c8', '--methods', 'AUSAM', '--rounds', 1,
                '--batch-size', 8), 'a look'),
    ('communication', ('--batch-sizes', 4), 'AUSAM(0.5), loader'),
])
def test_a_benchmark_prints_its_table_and_the_machine(
        name, arguments, words, tmp_path):
    out = run(name, *arguments, cwd=tmp_path)
    assert words in out and 'threads, torch' in out


def test_what_a_large_cluster_takes_is_counted_and_written(tmp_path):
    page = tmp_path / 'page.md'
    page.write_text('Before.\n<!-- measured -->\nold\n<!-- end -->\nAfter.\n')
    run('scaling', '--sizes', 100, 1000, '--processes', '--alone', 64,
        '--batch-size', 8, '--rounds', 1, '--page', page, cwd=tmp_path)
    text = page.read_text()
    assert text.startswith('Before.\n') and text.endswith('After.\n')
    assert 'old' not in text
    assert '| 14,200,000 | ImageNet-21k | 512.0 |' in text
    row, = (line.split(' | ') for line in text.splitlines()
            if line.startswith('| 64 |'))
    # 4 of 8 samples: two numbers, and 16 bytes a sample of each process; 24
    # and two numbers and 72 more where they were selected in the loader.
    assert row[2:4] == ['2', f'{64 * (16 + 4 * 16) / 1024:.1f}']
    assert row[5:7] == ['4', f'{64 * (32 + 4 * (24 + 72)) / 1024:.1f}']


def test_one_copy_of_the_weights_and_of_gradients_while_accumulating(
        tmp_path):
    out = tmp_path / 'out.json'
    printed = run('step_overhead', '--parameters', 1e6, '--rounds', 2,
                  '--samples', 300, '--out', out, cwd=tmp_path)
    assert 'sum / step' in printed and 'SAM, accumulation 2: 5.00' in printed
    copies = json.loads(out.read_text())['copies_of_the_weights']
    # Weights, gradients, momentum; SAM's copy; what was accumulated before.
    assert [round(value, 2) for value in copies.values()] == [3, 3, 4, 5]


@pytest.mark.parametrize('way', ['epochs-2', 'iterations-2-loader'])
def test_a_killed_training_on_two_processes_ends_the_same(tmp_path, way):
    out = run('kill_resume', '--kills', 1, '--ways', way, cwd=tmp_path)
    assert '1 of 1 endings are identical' in out
