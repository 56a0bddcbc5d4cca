"""Writes what is derived: tables of the docs, metafiles, model-index.yml.

Options, costs and papers come from the docstrings of the registered methods,
metafiles from the configs, and tables of studies from their results. In a page
a block is what stands between `<!-- generated: NAME -->` and `<!-- end -->`.
"""

import argparse
import inspect
import os
import re
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import yaml
from mmengine.config import Config
from mmengine.registry import DATA_SAMPLERS, OPTIM_WRAPPERS

import ausam_mm  # noqa: F401  registers the methods
from ausam_mm.quantization import LSQModel
from ausam_mm.tooling.docstrings import cost, paragraphs
from ausam_mm.tooling.studies import read_study
from ausam_mm.tooling.study_report import markdown as study_markdown
from ausam_mm.tooling.study_report import short_markdown, summarize_study

ROOT = Path(__file__).resolve().parents[1]
PAGES = ROOT / 'docs' / 'methods'
ARXIV = re.compile(r'arXiv (\d{4}\.\d{5})')
BLOCK = re.compile(
    r'(<!-- generated: ([^>]+) -->\n).*?(<!-- end -->)', re.DOTALL)
NOTE = '# Written by docs/generate.py.\n'
# What a class is built with: no option to choose.
GIVEN = ('optimizer', 'dataset', 'architecture', 'data_preprocessor')
TASKS = dict(
    mmpretrain='Image Classification', mmpose='Keypoint Detection',
    mmdet='Object Detection', mmseg='Semantic Segmentation')
DATA = {
    'camvid': 'CamVid',
    'cifar10': 'CIFAR-10',
    'cifar10-2000': 'CIFAR-10, 2,000 images',
    'cifar10-2000-noise40': 'CIFAR-10, 2,000 images, 40 % of the labels wrong',
    'cifar10-10000-noise40':
        'CIFAR-10, 10,000 images, 40 % of the labels wrong',
    'cifar10-batch-augment': 'CIFAR-10',
    'cifar100-batch-augment': 'CIFAR-100',
    'cifar100': 'CIFAR-100',
    'coco': 'COCO',
    'coco-people-160': 'People of COCO, 119 images',
    'digits': 'Digits',
    'digits-noise40': 'Digits, 40 % of the labels wrong',
    'figures': 'Figures',
    'in1k': 'ImageNet',
    'lspet': 'Leeds Sports Pose Extended',
    'lspet-400': 'Leeds Sports Pose Extended, 400 images',
    'mpii': 'MPII',
    'tiny-imagenet': 'Tiny-ImageNet',
    'tiny-imagenet20-2000': 'Tiny-ImageNet, 20 classes, 2,000 images'
}


@cache
def methods() -> dict[str, type]:
    """Classes of this package that are registered and state their cost."""
    found = {**OPTIM_WRAPPERS.module_dict, **DATA_SAMPLERS.module_dict}
    return {
        name.removesuffix('Sampler'): kind
        for name, kind in sorted(found.items(), key=lambda item: item[0])
        if kind.__module__.startswith('ausam_mm')
        and 'Cost: ' in (kind.__doc__ or '')
    }


def citation(kind: type) -> str:
    """The docstring's paragraph that cites the paper, or a base class's.

    Raises:
        SystemExit: If there is none.
    """
    for one in kind.__mro__[:-1]:
        for part in paragraphs(one) if one.__doc__ else ():
            if re.search(r'et al\., "', part):
                return part
    raise SystemExit(
        f'{kind.__name__} in {kind.__module__} cites no paper: put a '
        'paragraph \'Name et al., "Title", venue (arXiv 0000.00000).\' into '
        'its docstring.')


def options(kind: type) -> dict[str, tuple[str, str]]:
    """Default and meaning of each option in the docstring's Args.

    Those that every class is given are left out.
    """
    args = inspect.getdoc(kind).split('\nArgs:\n')[1]
    args = re.split(r'\n(?=\S)', args)[0]
    parameters = inspect.signature(kind).parameters
    rows = {}
    for entry in re.split(r'\n(?= {4}\S)', f'\n{args}')[1:]:
        name, meaning = ' '.join(entry.split()).split(': ', 1)
        name = name.split(' ')[0]
        if name in GIVEN:
            continue
        meaning = re.sub(r' Defaults to [^\s;,]+\.$', '', meaning)
        default = '' if name.startswith('*') else \
            f'`{parameters[name].default!r}`'
        rows[name] = (default, meaning)
    return rows


def markdown(text: str, page: Path) -> str:
    """A docstring's text with its roles as links, for a table's cell."""
    shared = methods()['SAM'].__base__

    def link(match: re.Match) -> str:
        kind = match[1]
        if kind == shared.__name__:
            return '[shared options](README.md#options-of-every-method)'
        pages = {name: path for path, names in pages_of_methods().items()
                 for name in names}
        return f'[{kind}]({relative(pages[kind], page)})' if kind in pages \
            else f'`{kind}`'

    text = re.sub(r':class:`(\w+)`', link, text.replace('``', '`'))
    return re.sub(r'\\?\|', r'\\|', text)


def relative(path: Path, page: Path) -> str:
    return Path(os.path.relpath(path, page.parent)).as_posix()


def option_table(kind: type, page: Path) -> str:
    lines = ['| option | default | meaning |', '|---|---|---|']
    rest = ''
    for name, (default, meaning) in options(kind).items():
        if name.startswith('*'):
            rest = f'\n\n{markdown(meaning, page)}'
        else:
            lines.append(f'| `{name}` | {default} | '
                         f'{markdown(meaning, page)} |')
    return '\n'.join(lines) + rest


def method_block(kind: type, page: Path) -> str:
    """Cost, options and source of one method."""
    source = Path(inspect.getsourcefile(kind)).relative_to(ROOT)
    cited = ARXIV.sub(r'[arXiv \1](https://arxiv.org/abs/\1)',
                      markdown(citation(kind), page))
    return (f'**Cost:** {markdown(cost(kind), page)}\n\n'
            f'{option_table(kind, page)}\n\n**Source:** {cited} '
            f'Code: [{source.as_posix()}]({relative(ROOT / source, page)}).')


def method_table(page: Path) -> str:
    """A line on each method."""
    lines = ['| method | what it does | cost |', '|---|---|---|']
    for path, names in pages_of_methods().items():
        for name in names:
            kind = methods()[name]
            lines.append(
                f'| [{name}]({relative(path, page)}) | '
                f'{markdown(paragraphs(kind)[0], page)} | '
                f'{markdown(cost(kind), page)} |')
    return '\n'.join(lines)


def study_block(path: Path, page: Path) -> str:
    """A study's question, command, tables, figure and reading."""
    study = read_study(path)
    return study_markdown(
        study, summarize_study(study),
        f'python tools/study.py {path.relative_to(ROOT).as_posix()}',
        relative(study.results / 'figure.png', page))


def gain_block(path: Path) -> str:
    """What the settings of a study's first case reach and cost."""
    study = read_study(path)
    return short_markdown(study, summarize_study(study))


@cache
def pages_of_methods() -> dict[Path, list[str]]:
    """The methods whose blocks each page in docs/methods has."""
    found = {
        path: [name.split()[1] for _, name, _ in BLOCK.findall(
            path.read_text(encoding='utf-8')) if name.startswith('method ')]
        for path in sorted(PAGES.glob('*.md'))
    }
    return {path: names for path, names in found.items() if names}


def blocks(page: Path) -> dict[str, Callable[[], str]]:
    """What writes each block in a page."""
    writers = {
        'shared options': partial(
            option_table, methods()['SAM'].__base__, page),
        'methods': partial(method_table, page),
        'options LSQModel': partial(option_table, LSQModel, page)
    }
    for name, kind in methods().items():
        writers[f'method {name}'] = partial(method_block, kind, page)
    for path in sorted(ROOT.glob('studies/[!_]*.py')):
        writers[f'study {path.stem}'] = partial(study_block, path, page)
        writers[f'gain {path.stem}'] = partial(gain_block, path)
    return writers


def page_text(page: Path) -> str:
    """A page with its blocks as they should be.

    Raises:
        SystemExit: If there is no such block.
    """
    known = blocks(page)

    def fill(match: re.Match) -> str:
        if match[2] not in known:
            raise SystemExit(
                f'{page.relative_to(ROOT)} has the block {match[2]!r}: write '
                f'one of {", ".join(known)}.')
        return f'{match[1]}\n{known[match[2]]()}\n\n{match[3]}'

    return BLOCK.sub(fill, page.read_text(encoding='utf-8'))


def configs() -> list[Path]:
    """Every config that is a training."""
    return sorted(path for path in ROOT.glob('configs/*/*/*.py')
                  if path.parts[-3] != '_base_')


def architecture(model: dict) -> list[str]:
    """Names of a model's head, unless it classifies, and backbone."""
    if model['type'] == 'LSQModel':
        return [*architecture(model['architecture']), 'LSQ']
    backbone = model['backbone']
    head = next(model[name] for name in ('decode_head', 'bbox_head', 'head')
                if name in model)
    name = backbone.get('model_name') or backbone['type'].removesuffix(
        '_CIFAR')
    for size in ('depth', 'arch'):
        if size in backbone:
            name += f'-{backbone[size]}'
    return ([] if model['type'] == 'ImageClassifier' else
            [head['type'].removesuffix('Head')]) + [name]


def entry(path: Path) -> str:
    """A config's entry in its metafile."""
    cfg = Config.fromfile(path, import_custom_modules=False)
    method = cfg.optim_wrapper.get('type', 'OptimWrapper')
    sampler = cfg.train_dataloader.sampler.type.removesuffix('Sampler')
    processes = re.search(r'[_-](\d+)xb\d', path.stem)
    data = path.stem.rsplit('_', 1)[1]
    metadata = {
        'Task': TASKS[cfg.default_scope],
        'Training Data': DATA[re.sub(r'-\d+x\d+$', '', data)],
        'Epochs': cfg.train_cfg.max_epochs,
        'Batch Size': cfg.train_dataloader.batch_size *
        (int(processes[1]) if processes else 1),
        'Architecture': architecture(cfg.model)
    }
    model = {
        'Name': path.stem,
        'In Collection': method if method in methods() or
        sampler not in methods() else sampler,
        'Config': path.relative_to(ROOT).as_posix(),
        'Metadata': metadata
    }
    return '  - ' + yaml.safe_dump(
        model, default_flow_style=True, sort_keys=False, width=1000)


def model_index(metafiles: list[Path]) -> str:
    """The methods as collections, and the metafiles."""
    collections = [{'Name': 'OptimWrapper', 'README': 'docs/configs.md'}]
    for path, names in pages_of_methods().items():
        for name in names:
            cited = citation(methods()[name])
            number = ARXIV.search(cited)
            collections.append({
                'Name': name,
                'Paper': {
                    'Title': re.search('"([^"]+)"', cited)[1],
                    **({'URL': f'https://arxiv.org/abs/{number[1]}'}
                       if number else {})
                },
                'README': path.relative_to(ROOT).as_posix()
            })
    return NOTE + yaml.safe_dump(
        {
            'Import': [path.relative_to(ROOT).as_posix()
                       for path in metafiles],
            'Collections': collections
        }, sort_keys=False, width=1000)


def generate() -> dict[Path, str]:
    """What each derived file, and each page with blocks, should hold.

    Raises:
        SystemExit: If a method has no page.
    """
    with_page = [n for names in pages_of_methods().values() for n in names]
    for name in methods():
        if name not in with_page:
            raise SystemExit(
                f'{name} has no page: write one in docs/methods with the '
                f'lines <!-- generated: method {name} --> and <!-- end -->.')
    files: dict[Path, str] = {}
    for path in configs():
        metafile = path.with_name('metafile.yml')
        files[metafile] = files.get(metafile, f'{NOTE}Models:\n') + entry(path)
    files[ROOT / 'model-index.yml'] = model_index(list(files))
    for page in (ROOT / 'README.md', *sorted(ROOT.glob('docs/**/*.md'))):
        if BLOCK.search(page.read_text(encoding='utf-8')):
            files[page] = page_text(page)
    return files


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        '--check', action='store_true',
        help='write nothing, and fail where a file is stale')
    args = parser.parse_args()
    stale = {path: text for path, text in generate().items()
             if not path.exists()
             or path.read_text(encoding='utf-8') != text}
    for path, text in stale.items():
        if not args.check:
            path.write_text(text, encoding='utf-8')
        print(f'{"stale" if args.check else "written"}: '
              f'{path.relative_to(ROOT)}')
    if args.check and stale:
        raise SystemExit('Run python docs/generate.py.')


if __name__ == '__main__':
    main()
