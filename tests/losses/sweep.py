"""Tries AUSAM on every head and loss of the OpenMMLab libraries.

Each head that can be built takes two steps on made-up data, and the loss of
each sample is compared with the head's own loss on that sample alone; so is
each loss module by itself. What is not separable has to be refused with a
sentence that names the module. The list is written as a page, and is not
written if anything is neither.
Sections of libraries that are not installed, or not named, stay as they are.
"""

import argparse
import re
from collections import Counter
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import torch
from mmengine.model import BaseModel
from mmengine.registry import MODELS, OPTIM_WRAPPERS, init_default_scope
from rich.progress import track
from torch import Tensor, nn

import ausam_mm  # noqa: F401

from . import mmseg_cases, variants
from .cases import Case
from .head_cases import MMPOSE, MMPRETRAIN, images
from .loss_cases import CASES as LOSSES
from .loss_cases import (
    COUNTED,
    NOT_TRIED,
    REFUSED,
    WHOLE_BATCH,
    N,
    build_loss,
    is_known,
    one,
    watched,
)

CASES = dict(mmpretrain=MMPRETRAIN, mmpose=MMPOSE, mmseg=mmseg_cases.HEADS)
INSTALLED = [library for library in CASES if find_spec(library)]
NUM = 6  # samples in the batch
# In these samples see each other, or each pass draws anew. mmcv's layers share
# their defaults: once MMDetection has built some, others have dropout, too.
EVALUATED = (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd)


class HeadModel(BaseModel):
    """A head behind a scale of its features, which is learned."""

    def __init__(self, case: Case, library: str) -> None:
        super().__init__()
        init_default_scope(library)
        torch.manual_seed(0)
        self.head = MODELS.build(dict(case.head, _scope_=library))
        self.call = case.call
        self.scale = nn.Parameter(torch.ones(()))
        for p in self.head.parameters():
            if p.dim() > 1 and not p.any():  # a head that starts with zeros
                nn.init.normal_(p, std=0.1)

    def train(self, mode: bool = True) -> 'HeadModel':
        super().train(mode)
        for module in self.modules():
            if isinstance(module, EVALUATED):
                module.eval()
        return self

    def forward(self, inputs: Tensor, data_samples: list,
                mode: str = 'loss') -> dict:
        return self.call(self.head, inputs * self.scale, data_samples)


VERDICTS = ('yes', 'refused', 'not tried')


@dataclass
class Outcome:
    """What became of a head or a loss: its reductions, or why not.

    Attributes:
        wrongly (bool): Whether it was refused though its numbers separate.
    """
    name: str
    verdict: str
    text: str
    wrongly: bool = False

    @property
    def row(self) -> str:
        """Its row of the page."""
        note = ' (its numbers separate)' if self.wrongly else ''
        return f'| {self.name} | {self.verdict} | {self.text}{note} |'


def own_losses(model: HeadModel, feats: Tensor, samples: list) -> Tensor:
    """The head's loss on each sample alone, shape (b, )."""
    with torch.no_grad():
        return torch.stack([
            model.parse_losses(model(feats[i:i + 1], samples[i:i + 1]))[0]
            for i in range(len(samples))])


def is_separable(model: HeadModel, library: str) -> bool:
    """Whether the losses of batches are means or sums of their samples'."""
    batches = [images(NUM, library, seed) for seed in range(3)]
    try:
        own = [own_losses(model, *batch) for batch in batches]
    except Exception:  # such a head does not know one sample
        return False
    with torch.no_grad():
        whole = torch.stack([model.parse_losses(model(*batch))[0]
                             for batch in batches])
    return any(
        torch.allclose(whole, torch.stack([reduce(losses) for losses in own]),
                       rtol=1e-3) for reduce in (torch.mean, torch.sum))


def try_head(case: Case, library: str) -> Outcome:
    """Takes two steps with a head, on two different batches.

    Raises:
        AssertionError: If a sample's loss is not the head's own, or a refusal
            does not name the module.
    """
    if case.why_not:
        return Outcome(case.name, 'not tried', case.why_not)
    model = HeadModel(case, library).train()
    wrapper = OPTIM_WRAPPERS.build(
        dict(type='AUSAM', rho=0.05, alpha=0.5, warmup_iters=1),
        default_args=dict(
            optimizer=torch.optim.SGD(model.parameters(), lr=0.01)))
    records, observe = [], wrapper.observe
    wrapper.observe = lambda step: (records.append(step), observe(step))
    for seed in range(2):
        feats, samples = images(NUM, library, seed)
        try:
            expected = own_losses(model, feats, samples)
        except Exception as error:  # such a head does not know one sample
            expected = error
        try:
            model.train_step(dict(inputs=feats, data_samples=samples), wrapper)
        except ValueError as error:
            message = ' '.join(str(error).split())
            assert '`head' in message or 'no loss modules' in message, message
            return Outcome(
                case.name, 'refused', reason(message),
                wrongly=is_separable(model, library))
        assert not isinstance(expected, Exception), (
            f'{case.name} was not refused, and has no loss of one sample: '
            f'{expected}')
        step = records[-1]
        torch.testing.assert_close(
            step.first.losses, expected[step.selection.ascent], rtol=1e-4,
            atol=1e-6, msg=lambda text: f'{case.name}: losses of the samples '
            f'are wrong. {text}')
    assert wrapper.samples_backpropagated == 2 * (NUM + NUM // 2)
    return Outcome(case.name, 'yes', ', '.join(
        f'`{name}` {how}'
        for name, how in sorted(wrapper.reductions.items())))


def try_loss(kind: str, library: str, options: dict, args: tuple,
             kwargs: dict, note: str = '') -> Outcome:
    """Evaluates a loss module once; raises as :func:`try_head` does."""
    name = ', '.join([kind, *(f'{key}={value}' for key, value in
                              options.items() if not isinstance(value, list)),
                      *([note] if note else [])])
    try:
        torch.manual_seed(0)
        module = build_loss(library, kind, options)
        _, record, losses = watched(module, args, kwargs, list(args))
    except ValueError as error:
        message = ' '.join(str(error).split())
        assert kind in message, message
        return Outcome(name, 'refused', reason(message))
    call = losses.calls['loss_module']
    if call.of_module == 'count':  # what that is has a test of its own
        return Outcome(name, 'yes', 'by a number that the labels tell')
    expected = torch.stack([module(*one(args, i), **{key: 1 for key in kwargs})
                            .mean() for i in range(N)])
    torch.testing.assert_close(
        record.losses, expected.detach(), rtol=1e-4, atol=1e-6)
    return Outcome(name, 'yes', call.in_total)


def try_losses(library: str) -> list[Outcome]:
    """What became of all loss modules of a library, one line each."""
    cases = [*LOSSES, *((*case, {}, 'divided') for case in COUNTED),
             *((*case, {}) for case in REFUSED),
             *((*case, (), {}) for case in WHOLE_BATCH)]
    outcomes = [try_loss(kind, library, *case)
                for package, kind, *case in cases
                if package == library and is_known(library, kind)]
    outcomes += [Outcome(kind, 'not tried', why)
                 for kind, why in NOT_TRIED.items() if is_known(library, kind)]
    return list({outcome.name: outcome for outcome in outcomes}.values())


def forgotten(library: str) -> list[str]:
    """Heads and losses of a library that have no case."""
    init_default_scope(library)
    __import__(f'{library}.models')
    registry = __import__(f'{library}.registry').registry.MODELS
    tried = {case.head['type'] for case in CASES[library]} | set(NOT_TRIED)
    tried |= {case[1] for case in LOSSES + COUNTED + REFUSED + WHOLE_BATCH
              if case[0] == library}
    return sorted(
        name for name, kind in registry.module_dict.items()
        if name.endswith(('Head', 'Loss', 'LossWrapper')) and name not in tried
        and kind.__module__.startswith(f'{library}.models'))


PAGE = """# Heads and losses under AUSAM

Which heads and losses of mmpretrain, mmpose and mmsegmentation AUSAM can
train. ESAM (with `gamma` below 1), KSAM and InfoBatch need the same; SAM and
the other methods work with all of them. The page is written by

```bash
python -m tests.losses.sweep
```

here with {versions}.

"Separable" means: in two training steps, the loss of each sample was the
head's own loss on that sample alone (BatchNorm in eval mode). For a loss
module it means the same of its value. The reduction says how the module's
batch loss is made of the losses of its samples. How these are found, and how
to add a loss, is in [losses.md](losses.md).
"""
TABLE = ['| | separable | reduction, or why not |', '|---|---|---|']


def page(outcomes: dict[str, list[Outcome]], before: str) -> str:
    """The page of the docs.

    Args:
        outcomes (dict): What became of heads and losses, by section.
        before (str): The page as it is, of which other sections stay.
    """
    sections = sections_of(before)
    for title, found in outcomes.items():
        sections[title] = [*TABLE, *(
            o.row for verdict in VERDICTS for o in found
            if o.verdict == verdict)]
    titles = [f'{kind} of {library}' for library in CASES
              for kind in ('Heads', 'Losses')]
    lines = [PAGE.format(versions=', '.join(
        version(library, before) for library in CASES))]
    # Written by another command.
    rest = [title for title in sections if title not in (*titles, 'Counts')]
    for title in (*titles, *rest):
        lines += [f'## {title}', '', *sections[title], '']
    rows = [row for title in titles for row in sections[title][len(TABLE):]]
    # What models make of losses is counted of all libraries.
    others = variants_row() if len(outcomes) == len(titles) else next(
        line for line in sections['Counts'] if line.startswith('| what'))
    return '\n'.join([*lines, *counts(rows, others)])


def sections_of(text: str) -> dict[str, list[str]]:
    """The lines of the sections of a page, by title."""
    parts = [part.split('\n', 1) for part in text.split('\n## ')[1:]]
    return {title: body.strip().splitlines() for title, body in parts}


def version(library: str, before: str) -> str:
    """A library and its release, or that which the page names."""
    if library in INSTALLED:
        found = __import__(f'{library}.version').version.__version__
    else:
        found = re.search(rf'{library} (\d[\w.]*\w)', before)[1]
    return f'{library} {found}'


COUNTS = """## Counts

What the command above tried: the heads and losses of this page, and what a
model may make of a loss: weighting it, calling it twice, reducing it itself,
reordering or centering its samples, adding a part outside. Each is judged on
one batch and compared on others, and on parts of them.

| | tried | right | refused | refused, though its numbers separate | wrong |
|---|---|---|---|---|---|"""
WRONGLY = 'Refused, though its numbers separate: '


def counts(rows: list[str], others: str) -> list[str]:
    """The lines of a table of what was tried.

    Args:
        rows (list[str]): Those of the heads and losses.
        others (str): The row of what models make of losses.
    """
    tried = [row for row in rows if '| not tried |' not in row]
    right = sum('| yes |' in row for row in tried)
    wrongly = [row.split(' | ')[0][2:] for row in tried
               if '(its numbers separate)' in row]
    return [*COUNTS.splitlines(),
            f'| heads and losses | {len(tried)} | {right} | '
            f'{len(tried) - right - len(wrongly)} | {len(wrongly)} | 0 |',
            others, '', *(f'- {WRONGLY}{name}.' for name in wrongly)]


def variants_row() -> str:
    """The row of what models make of losses.

    Raises:
        AssertionError: If one is refused though its numbers separate: that
            has to be understood first.
    """
    found = list(track(variants.results(), 'variants'))
    verdicts = Counter(result.verdict for result in found)
    names = [result.name for result in found
             if result.verdict == 'refused wrongly']
    assert not names, f'{WRONGLY}{", ".join(names)}'
    return (f'| what a model makes of a loss | {len(found)} | '
            f'{verdicts["right"]} | {verdicts["refused"]} | 0 | '
            f'{verdicts["wrong"]} |')


def reason(message: str) -> str:
    """What a refusal says of the module and why."""
    found = re.search(r'(`\S+`) \((\w+)\).*?\((.*)\): use', message)
    if found is None:  # it has no loss module at all
        return message.split(':')[0].replace('HeadModel', 'it')
    return '{} ({}): {}'.format(*found.groups())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument('--out', type=Path, default=Path('docs/heads.md'))
    parser.add_argument(
        '--only', nargs='+', choices=INSTALLED, default=INSTALLED,
        help='tries these libraries alone; by default all that are installed')
    args = parser.parse_args()
    outcomes = {}
    for library in args.only:
        left = forgotten(library)
        assert not left, f'No case for {", ".join(left)} of {library}.'
        outcomes[f'Heads of {library}'] = [
            try_head(case, library)
            for case in track(CASES[library], library)]
        outcomes[f'Losses of {library}'] = try_losses(library)
    args.out.write_text(page(outcomes, args.out.read_text()) + '\n')
    print(f'Written to {args.out}.')


if __name__ == '__main__':
    main()
