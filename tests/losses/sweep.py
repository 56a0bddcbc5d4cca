"""Tries AUSAM on every head and loss of mmpretrain and mmpose.

Each head that can be built takes two steps on made-up data, and the loss of
each sample is compared with the head's own loss on that sample alone; so is
each loss module by itself. What is not separable has to be refused with a
sentence that names the module. The list is written as a page, and is not
written if anything is neither.
"""

import argparse
import re
from dataclasses import dataclass
from pathlib import Path

import torch
from mmengine.model import BaseModel
from mmengine.registry import MODELS, OPTIM_WRAPPERS, init_default_scope
from rich.progress import track
from torch import Tensor, nn

import ausam_mm  # noqa: F401

from .head_cases import MMPOSE, MMPRETRAIN, Case, images
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

CASES = dict(mmpretrain=MMPRETRAIN, mmpose=MMPOSE)
NUM = 6  # samples in the batch
NORMS = (nn.modules.batchnorm._BatchNorm, )


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
        for module in self.modules():  # where samples would see each other
            if isinstance(module, NORMS):
                module.eval()
        return self

    def forward(self, inputs: Tensor, data_samples: list,
                mode: str = 'loss') -> dict:
        return self.call(self.head, inputs * self.scale, data_samples)


VERDICTS = ('yes', 'refused', 'not tried')


@dataclass
class Outcome:
    """What became of a head or a loss: its reductions, or why not."""
    name: str
    verdict: str
    text: str

    @property
    def row(self) -> str:
        """Its row of the page."""
        return f'| {self.name} | {self.verdict} | {self.text} |'


def own_losses(model: HeadModel, feats: Tensor, samples: list) -> Tensor:
    """The head's loss on each sample alone, shape (b, )."""
    with torch.no_grad():
        return torch.stack([
            model.parse_losses(model(feats[i:i + 1], samples[i:i + 1]))[0]
            for i in range(len(samples))])


def try_head(case: Case, library: str) -> Outcome:
    """Takes two steps with a head.

    Raises:
        AssertionError: If a sample's loss is not the head's own, or a refusal
            does not name the module.
    """
    if case.why_not:
        return Outcome(case.name, 'not tried', case.why_not)
    model = HeadModel(case, library).train()
    feats, samples = images(NUM, library)
    wrapper = OPTIM_WRAPPERS.build(
        dict(type='AUSAM', rho=0.05, alpha=0.5, warmup_iters=1),
        default_args=dict(
            optimizer=torch.optim.SGD(model.parameters(), lr=0.01)))
    records, observe = [], wrapper.observe
    wrapper.observe = lambda step: (records.append(step), observe(step))
    try:
        expected = own_losses(model, feats, samples)
    except Exception as error:  # such a head does not know one sample
        expected = error
    try:
        for _ in range(2):
            model.train_step(
                dict(inputs=feats, data_samples=samples), wrapper)
    except ValueError as error:
        message = ' '.join(str(error).split())
        assert '`head' in message or 'no loss modules' in message, message
        return Outcome(case.name, 'refused', reason(message))
    if isinstance(expected, Exception):
        raise AssertionError(f'{case.name} was not refused, and has no loss '
                             f'of one sample: {expected}')
    torch.testing.assert_close(records[0].first.losses, expected, rtol=1e-4,
                               atol=1e-6, msg=lambda text: f'{case.name}: '
                               f'losses of the samples are wrong. {text}')
    assert wrapper.samples_backpropagated == 2 * (NUM + NUM // 2)
    return Outcome(case.name, 'yes', ', '.join(
        f'`{name}` {how}'
        for name, how in sorted(wrapper.reductions.items())))


def try_loss(kind: str, library: str, options: dict, args: tuple,
             kwargs: dict) -> Outcome:
    """Evaluates a loss module once; raises as :func:`try_head` does."""
    name = ', '.join([kind, *(f'{key}={value}' for key, value in
                              options.items() if not isinstance(value, list))])
    try:
        torch.manual_seed(0)
        module = build_loss(library, kind, options)
        _, record, losses = watched(module, args, kwargs)
    except ValueError as error:
        message = ' '.join(str(error).split())
        assert kind in message, message
        return Outcome(name, 'refused', reason(message))
    expected = torch.stack([module(*one(args, i), **{key: 1 for key in kwargs})
                            .mean() for i in range(N)])
    torch.testing.assert_close(
        record.losses, expected.detach(), rtol=1e-4, atol=1e-6)
    return Outcome(name, 'yes', losses.reductions['loss_module'])


def try_losses(library: str) -> list[Outcome]:
    """What became of all loss modules of a library, one line each."""
    cases = [(kind, options, args, kwargs) for package, kind, options, args,
             kwargs in LOSSES if package == library]
    cases += [(kind, options, args, {}) for package, kind, options, args in
              REFUSED if package == library]
    cases += [(kind, options, (), {}) for package, kind, options in
              WHOLE_BATCH if package == library]
    outcomes = [try_loss(kind, library, options, args, kwargs)
                for kind, options, args, kwargs in cases
                if is_known(library, kind)]
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


PAGE = """# Heads and losses of mmpretrain and mmpose under AUSAM

Which heads and losses AUSAM can train. ESAM (with `gamma` below 1), KSAM and
InfoBatch need the same; SAM and the other methods work with all of them. The
page is written by

```bash
python -m tests.losses.sweep
```

here with mmpretrain {mmpretrain} and mmpose {mmpose}.

"Separable" means: in two training steps, the loss of each sample was the
head's own loss on that sample alone (BatchNorm in eval mode). For a loss
module it means the same of its value. The reduction says how the module's
batch loss is made of the losses of its samples. How these are found, and how
to add a loss, is in [losses.md](losses.md).
"""


def page(outcomes: dict[str, list[Outcome]]) -> str:
    """The page of the docs."""
    from mmpose.version import __version__ as mmpose
    from mmpretrain.version import __version__ as mmpretrain
    lines = [PAGE.format(mmpretrain=mmpretrain, mmpose=mmpose)]
    for title, found in outcomes.items():
        lines += [f'## {title}', '', '| | separable | reduction, or why not |',
                  '|---|---|---|']
        lines += [o.row for verdict in VERDICTS for o in found
                  if o.verdict == verdict]
        lines.append('')
    return '\n'.join(lines)


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
    args = parser.parse_args()
    outcomes = {}
    for library, cases in CASES.items():
        left = forgotten(library)
        assert not left, f'No case for {", ".join(left)} of {library}.'
        outcomes[f'Heads of {library}'] = [
            try_head(case, library) for case in track(cases, library)]
        outcomes[f'Losses of {library}'] = try_losses(library)
    args.out.write_text(page(outcomes))
    print(f'Written to {args.out}.')


if __name__ == '__main__':
    main()
