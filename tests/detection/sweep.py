"""Tries AUSAM on the heads of mmdet that have a rule, and lists the others.

As ``tests.losses.sweep`` does on mmpretrain and mmpose: each head takes two
steps in a small detector, and the loss of each image is compared with that of
the detector on the image alone, divided by the batch's numbers. It writes the
section "Heads of mmdet" of the page.
"""

import argparse
import inspect
import re
from collections import defaultdict
from pathlib import Path

import torch
from mmengine.registry import init_default_scope

from ausam_mm.losses.detection import HeadLosses
from ausam_mm.losses.rules import class_with_rule, find_rule

from ..losses.toy import record
from ..toy import wrap
from .detectors import VARIANTS, WITH_RULES, alone, batch, build

SECTION = """## Heads of mmdet

Written by `python -m tests.detection.sweep`, here with mmdet {version}. An
image is compared with the detector's loss on this image alone, divided by the
numbers of the batch. See [detection.md](detection.md).

| | separable | reduction, or why not |
|---|---|---|
"""


def cases():
    """Each head's name, the detector that it is tried in, and its options."""
    for kind in WITH_RULES:
        yield type(build(kind).bbox_head).__name__, kind, {}
        for name, options in VARIANTS[kind].items():
            yield name, kind, options


def try_head(name, kind, options):
    """Takes two steps; returns the head's row of the page.

    Raises:
        AssertionError: If the losses of images are not the detector's.
    """
    model = build(kind, **options)
    wrapper = wrap(model, lr=0., weight_decay=0., momentum=0., type='AUSAM',
                   rho=1e-9, warmup_iters=1, ramp_iters=0, seed=0)
    steps, _ = record(wrapper)
    for seed in range(2):
        model.train_step(batch(seed), wrapper)
    seen = steps[-1].selection.ascent
    assert len(seen) == 2
    torch.testing.assert_close(
        steps[-1].first.losses, alone(kind, model, batch(1)).detach()[seen],
        rtol=2e-6, atol=1e-6, msg=lambda text: f'{name}: {text}')
    return f'| {name} | yes | ' + ', '.join(
        f'`{key}` {how}' for key, how in wrapper.reductions.items()) + ' |'


def others(tried):
    """The heads that are not tried: verdict and reason, and their names."""
    init_default_scope('mmdet')
    import mmdet.models  # noqa: F401
    from mmdet.registry import MODELS
    found = defaultdict(list)
    for name, kind in sorted(MODELS.module_dict.items()):
        if not kind.__module__.startswith('mmdet.models') \
                or not name.endswith('Head') or inspect.isabstract(kind):
            continue
        head = kind.__new__(kind)
        rule, reason = find_rule(head)
        if rule is not None:
            try:
                HeadLosses(head, None, rule.numbers_from)
                reason = f'not tried | as {class_with_rule(head).__name__}'
            except ValueError as error:
                reason = f'refused | {error}'
        elif reason is not None:
            reason = f'refused | {reason}'
        else:
            reason = ('not tried | its loss modules are judged as those of '
                      'any model')
        if name not in tried:
            found[reason].append(name)
    return found


def section():
    """The section of the page, as text."""
    from mmdet import __version__
    tried = list(cases())
    rows = [try_head(*case) for case in tried]
    left = others({name for name, *_ in tried})
    rows += [f'| {", ".join(left[reason])} | {reason} |'
             for reason in sorted(left, reverse=True)]
    return SECTION.format(version=__version__) + '\n'.join(rows) + '\n\n'


def with_section(page, text):
    """The page with the section in place of the one that it has."""
    page = re.sub(r'## Heads of mmdet\n.*?(?=## )', '', page, flags=re.DOTALL)
    return page.replace('## Counts\n', f'{text}## Counts\n')


if __name__ == '__main__':
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument('--out', type=Path, default=Path('docs/heads.md'))
    args = parser.parse_args()
    args.out.write_text(with_section(args.out.read_text(), section()))
    print(f'Written to {args.out}.')
