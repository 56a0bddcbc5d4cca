"""What was odd in a training, in plain words."""

import math
from collections import Counter, defaultdict
from collections.abc import Sequence

from .runs import Training

QUIET = ('finished without a resume, and no step or perturbation was '
         'skipped.')


def notes_of(training: Training) -> list[str]:
    """Sentences on a training that did not simply run through."""
    found = []
    if not training.finished:
        found.append(
            f'It is not finished: {training.progress}. What is shown of it is '
            'what it wrote until then.' if training.records else
            'It is not finished: it wrote no line of training.')
    elif training.length is None:
        found.append('Its config does not say how long it is: whether it is '
                     'finished is not known.')
    places = training.log.resumed_at
    if places:
        found.append(f'It was resumed {_times(len(places))}: from '
                     f'{"; ".join(places)}.')
    steps = training.steps
    if not steps:
        return found
    last = steps[-1]
    for key, text in (
            ('ausam/skipped_steps', 'were skipped, because the second '
             'gradient was not finite: lower the learning rate if this goes '
             'on.'),
            ('ausam/skipped_perturbations', 'were steps of the base optimizer '
             'alone, because the first gradient was not finite. With float16 '
             'a few are the loss scale settling; if it keeps rising, look for '
             'the overflow, or use bfloat16.')):
        number = int(last.get(key, 0))
        if number:
            found.append(f'{number:,} of {last["step"]:,} steps {text}')
    broken = [record['step'] for record in steps
              if not math.isfinite(record['loss'])]
    if broken:
        found.append(
            f'The loss was not finite in {_lines(len(broken))} of the log, '
            f'first at iteration {broken[0]:,}: it diverged or overflowed.')
    alpha = (training.config.get('optim_wrapper') or {}).get('alpha')
    ratio = alpha[-1] if isinstance(alpha, (tuple, list)) else alpha
    if training.finished and ratio and ratio < 1 \
            and last.get('ausam/ratio_used') == 1:
        found.append('Its last steps still saw full batches: the warm-up is '
                     'as long as the training; lower warmup_epochs.')
    return found


def warnings_of(trainings: Sequence[Training]) -> list[tuple[str, str]]:
    """The warnings of all logs, the most frequent first, and where."""
    number: Counter[str] = Counter()
    names = defaultdict(list)
    for training in trainings:
        for text, times in training.log.warnings.items():
            number[text] += times
            names[text].append(training.name)
    return [(text, f'{times:,} in ' + (
        names[text][0] if len(names[text]) == 1 else
        f'{len(names[text])} trainings'))
        for text, times in number.most_common()]


def environment_of(trainings: Sequence[Training]) -> list[tuple[str, str]]:
    """What the trainings ran on; where they differ, all values."""
    keys = dict.fromkeys(
        key for training in trainings for key in training.log.environment)
    found = []
    for key in keys:
        if key in ('seed', 'numpy_random_seed'):
            continue
        values = Counter(training.log.environment.get(key, 'unknown')
                         for training in trainings)
        found.append((key, next(iter(values)) if len(values) == 1 else
                      '; '.join(f'{value} ({number} of {len(trainings)})'
                                for value, number in values.most_common())))
    return found


def _times(number: int) -> str:
    return 'once' if number == 1 else f'{number} times'


def _lines(number: int) -> str:
    return 'one line' if number == 1 else f'{number:,} lines'
