"""Tables of the docs, metafiles and model-index.yml follow their sources."""

import importlib.util
import re
from pathlib import Path

import pytest
import yaml
from mmengine.config import Config

from ausam_mm.tooling.studies import read_study

from .tools.test_study import STUDY, fill

ROOT = Path(__file__).parents[1]
SPEC = importlib.util.spec_from_file_location(
    'generate', ROOT / 'docs' / 'generate.py')
generate = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(generate)


def read(path):
    return yaml.safe_load(path.read_text(encoding='utf-8'))


INDEX = read(ROOT / 'model-index.yml')
MODELS = [entry for name in INDEX['Import']
          for entry in read(ROOT / name)['Models']]


class Method:
    """Does something.

    Doe et al., "A Title: Longer", 2024 (arXiv 2401.00001).

    Norms are global. Cost: 1 + 1/k times
    as much.

    Args:
        optimizer (Optimizer): The optimizer.
        k (int): Steps of ``a | b``,
            in :class:`SAM`. Defaults to 5.
        seed (int, optional): Seed. Defaults to None, for PyTorch's.
        **kwargs: See :class:`Method`: eta.

    Raises:
        ValueError: Never.
    """

    def __init__(self, optimizer, k=5, seed=None, **kwargs):
        pass


def test_no_generated_file_is_stale():
    stale = [path.relative_to(ROOT).as_posix()
             for path, text in generate.generate().items()
             if path.read_text(encoding='utf-8') != text]
    assert not stale, 'run python docs/generate.py'


def test_a_docstring_becomes_a_table_of_options():
    page = ROOT / 'docs/methods/some.md'
    assert generate.option_table(Method, page).splitlines() == [
        '| option | default | meaning |', '|---|---|---|',
        r'| `k` | `5` | Steps of `a \| b`, in [SAM](sam.md). |',
        "| `seed` | `None` | Seed. Defaults to None, for PyTorch's. |",
        '', 'See `Method`: eta.']
    assert generate.cost(Method) == '1 + 1/k times as much.'


def test_a_subclass_has_the_paper_of_its_base():
    heir = type('Heir', (Method, ), dict(__doc__='Another.\n\nArgs:\n'))
    assert 'A Title: Longer' in generate.citation(heir)
    with pytest.raises(SystemExit, match='cites no paper'):
        generate.citation(type('Bare', (), dict(__doc__='Nothing.')))


def test_a_changed_block_is_written_anew_and_the_rest_stays(
        tmp_path, monkeypatch):
    page = ROOT / 'docs/methods/sam.md'
    text = page.read_text(encoding='utf-8')
    stale = text.replace('| `0.05` |', '| `0.5` |')
    assert stale != text
    monkeypatch.setattr(Path, 'read_text', lambda *_, **__: stale)
    assert generate.page_text(page) == text


def test_an_unknown_block_is_named(monkeypatch):
    monkeypatch.setattr(
        Path, 'read_text',
        lambda *_, **__: '<!-- generated: method SAN -->\n<!-- end -->')
    with pytest.raises(SystemExit, match=r"sam\.md has the block 'method SAN"):
        generate.page_text(ROOT / 'docs/methods/sam.md')


def test_a_study_is_a_block_with_the_figures_of_its_results(
        tmp_path, monkeypatch):
    monkeypatch.setattr(generate, 'ROOT', tmp_path)
    path = tmp_path / 'studies' / 'some.py'
    path.parent.mkdir()
    path.write_text(STUDY)
    page = tmp_path / 'docs' / 'results.md'
    text = generate.study_block(path, page)
    assert 'python tools/study.py studies/some.py\n' in text
    assert 'No run is finished yet.' in text
    fill(read_study(path), {('', 'SGD', 0): 43.21, ('', 'SAM', 0): 44.})
    text = generate.study_block(path, page)
    assert '| SGD | 43.21 |' in text and '+0.79' in text
    assert '](../studies/results/some/figure.png)' in text


def test_results_are_generated_alone():
    """No figure of a study is typed, neither in a table nor in a text."""
    text = (ROOT / 'docs' / 'results.md').read_text(encoding='utf-8')
    assert generate.BLOCK.search(text)
    assert not re.search(r'[0-9]\.[0-9]', generate.BLOCK.sub('', text))


def test_check_fails_and_writes_nothing_where_a_file_is_stale(
        tmp_path, monkeypatch, capsys):
    page = tmp_path / 'page.md'
    page.write_text('old')
    monkeypatch.setattr(generate, 'ROOT', tmp_path)
    monkeypatch.setattr(generate, 'generate', lambda: {page: 'new'})
    monkeypatch.setattr('sys.argv', ['generate.py', '--check'])
    with pytest.raises(SystemExit, match='Run python'):
        generate.main()
    assert page.read_text() == 'old'
    assert 'stale: page.md' in capsys.readouterr().out
    monkeypatch.setattr('sys.argv', ['generate.py'])
    generate.main()
    assert page.read_text() == 'new'


def test_every_metafile_is_imported():
    assert sorted(INDEX['Import']) == sorted(
        path.relative_to(ROOT).as_posix()
        for path in ROOT.glob('configs/*/*/metafile.yml'))


def test_every_method_is_a_collection_whose_page_cites_its_paper():
    collections = {entry['Name']: entry for entry in INDEX['Collections']}
    plain = collections.pop('OptimWrapper')
    assert (ROOT / plain['README']).is_file()
    assert {'SAM', 'AUSAM', 'InfoBatch'} < set(collections)
    assert set(collections) == set(generate.methods())
    for entry in collections.values():
        text = (ROOT / entry['README']).read_text(encoding='utf-8')
        assert f'"{entry["Paper"]["Title"]}' in text
        assert f'({entry["Paper"].get("URL", "")}' in text


def test_every_config_is_listed_once_under_its_name():
    listed = [entry['Config'] for entry in MODELS]
    there = [path.relative_to(ROOT).as_posix()
             for path in ROOT.glob('configs/[!_]*/*/*.py')]
    assert sorted(listed) == sorted(there)
    for entry in MODELS:
        assert Path(entry['Config']).stem == entry['Name']
    names = [entry['Name'].lower() for entry in MODELS]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize('entry', MODELS, ids=lambda entry: entry['Name'])
def test_a_metafile_says_what_a_config_and_its_name_say(entry):
    cfg = Config.fromfile(ROOT / entry['Config'], import_custom_modules=False)
    method = re.search(r'_([a-z]*sam(?:pa)?|infobatch)[-_]', entry['Name'])
    collection = entry['In Collection']
    assert collection.lower() == (method[1] if method else 'optimwrapper')
    about = entry['Metadata']
    processes, batch = re.search(
        r'[_-](?:(\d+)x)?b(\d+)[-_]', entry['Name']).groups()
    assert about['Batch Size'] == int(processes or 1) * int(batch)
    if not processes:  # mmpose's own may be of another number of them
        assert about['Batch Size'] == cfg.auto_scale_lr.base_batch_size
    assert about['Epochs'] == cfg.train_cfg.max_epochs
    assert about['Training Data'] and about['Architecture']


def test_modelindex_reads_it(monkeypatch):
    index = pytest.importorskip('modelindex.load_model_index')
    monkeypatch.chdir(ROOT)
    loaded = index.load(str(ROOT / 'model-index.yml'))
    loaded.build_models_with_collections()
    assert len(list(loaded.models)) == len(MODELS)
    assert len(list(loaded.collections)) == len(INDEX['Collections'])
    assert not loaded.check_errors
