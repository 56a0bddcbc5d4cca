"""model-index.yml and the metafiles list every method and every config."""

import re
from pathlib import Path

import pytest
import yaml
from mmengine.config import Config

from ausam_mm import optim

ROOT = Path(__file__).parents[1]
INDEX = ROOT / 'model-index.yml'
PLAIN, PRUNING = 'Plain', 'InfoBatch'
METHODS = sorted(
    name for name in optim.__all__
    if isinstance(getattr(optim, name), type)
    and issubclass(getattr(optim, name), optim.TwoPassOptimWrapper)
    and name != 'TwoPassOptimWrapper') + [PRUNING]


def read(path):
    return yaml.safe_load(path.read_text(encoding='utf-8'))


FILES = {name: read(ROOT / name) for name in read(INDEX)['Import']}
COLLECTIONS = [
    entry for file in FILES.values() for entry in file.get('Collections', [])]
MODELS = [entry for file in FILES.values() for entry in file['Models']]


def test_every_metafile_is_imported():
    assert sorted(FILES) == sorted(
        path.relative_to(ROOT).as_posix()
        for path in ROOT.glob('configs/*/*/metafile.yml'))


def test_every_method_is_a_collection_with_a_page():
    names = [entry['Name'] for entry in COLLECTIONS]
    assert sorted(names) == sorted([PLAIN, *METHODS])
    table = (ROOT / 'docs/methods/README.md').read_text(encoding='utf-8')
    for entry in COLLECTIONS:
        page = ROOT / entry['README']
        assert page.is_file()
        if entry['Name'] == PLAIN:
            continue
        assert (ROOT / entry['Code']['Path']).is_file()
        assert page.parent == ROOT / 'docs/methods'
        assert f'[{entry["Name"]}]({page.name}' in table
        text = ' '.join(page.read_text(encoding='utf-8').split())
        assert f'`{entry["Code"]["Path"]}`' in text or \
            f'[{entry["Code"]["Path"]}]' in text
        assert entry['Paper']['Title'] in text
        assert f'({entry["Paper"]["URL"]})' in text


def test_every_config_is_listed_once():
    listed = [entry['Config'] for entry in MODELS]
    there = [path.relative_to(ROOT).as_posix()
             for task in ('classification', 'pose', 'quantization')
             for path in ROOT.glob(f'configs/{task}/*/*.py')]
    assert sorted(listed) == sorted(there)
    for name, file in FILES.items():
        for entry in file['Models']:
            assert Path(entry['Config']).parent == Path(name).parent
            assert Path(entry['Config']).stem == entry['Name']
    names = [entry['Name'].lower() for entry in MODELS]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize('entry', MODELS, ids=lambda entry: entry['Name'])
def test_what_is_said_of_a_config_is_true(entry):
    cfg = Config.fromfile(ROOT / entry['Config'], import_custom_modules=False)
    method = cfg.optim_wrapper.get('type', 'OptimWrapper')
    if cfg.train_dataloader.sampler.type == 'InfoBatchSampler':
        assert method == 'OptimWrapper'
        method = PRUNING
    assert entry['In Collection'] == (
        PLAIN if method == 'OptimWrapper' else method)
    about = entry['Metadata']
    processes = re.search(r'[_-](\d+)xb\d', entry['Name'])
    assert about['Batch Size'] == cfg.train_dataloader.batch_size * (
        int(processes[1]) if processes else 1)
    assert about['Epochs'] == cfg.train_cfg.max_epochs
    assert about['Training Data'] and about['Architecture']


def test_results_are_measured():
    measured = (ROOT / 'docs/results.md').read_text(encoding='utf-8')
    for entry in MODELS:
        for result in entry.get('Results', []):
            for value in result['Metrics'].values():
                assert f'| {value:.2f} |' in measured


def test_modelindex_reads_it(monkeypatch):
    index = pytest.importorskip('modelindex.load_model_index')
    monkeypatch.chdir(ROOT)
    loaded = index.load(str(INDEX))
    loaded.build_models_with_collections()
    assert len(list(loaded.models)) == len(MODELS)
    assert len(list(loaded.collections)) == len(COLLECTIONS)
