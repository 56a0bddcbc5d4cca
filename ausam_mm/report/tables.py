"""The tables of a page."""

from collections.abc import Sequence
from typing import Any

from ..tooling.reports import Row
from ..tooling.study_report import with_interval
from .comparison import Case, Comparison
from .configs import split
from .figures import number

# Columns beyond these are folded away.
COLUMNS = 12


def settings_tables(comparison: Comparison) -> tuple[
        list[Row], list[Row], list[Row]]:
    """In what settings differ, in what else they do, and what is the same.

    The last is a table of names and values. In the others options of the
    OptimWrapper go by their names alone.
    """
    differ, same = split(list(comparison.settings.values()))

    def rows(keys: Sequence[str]) -> list[Row]:
        return [{'setting': name, **{
            key.removeprefix('optim_wrapper.'): settings.get(key, '')
            for key in keys}}
            for name, settings in comparison.settings.items()]

    first = [{'setting': row.pop('setting'),
              'trainings': comparison.trainings[name], **row}
             for name, row in zip(comparison.settings,
                                  rows(differ[:COLUMNS]))]
    one = next(iter(comparison.settings.values()))
    return (first, rows(differ[COLUMNS:]) if differ[COLUMNS:] else [],
            [{'setting': key, 'value': one[key]} for key in same])


def accuracy_table(comparison: Comparison, case: Case) -> list[Row]:
    """Means, intervals and differences."""
    digits = comparison.digits
    mean = {row['setting']: row['mean'] for row in case.rows}

    def difference(row: dict[str, Any]) -> str:
        base = mean.get(comparison.baseline)
        if row['setting'] == comparison.baseline:
            return 'baseline'
        if row['difference'] or not row['finished'] or base is None:
            return with_interval(row['difference'], digits)
        return f'{row["mean"] - base:+.{digits}f} (other seeds)'

    def cells(row: dict[str, Any]) -> Row:
        low, high = row['interval'] or (None, None)
        return {
            'setting': row['setting'],
            comparison.metric_title: f'{row["mean"]:.{digits}f}',
            '95 % interval': '' if low is None else
            f'{low:.{digits}f} to {high:.{digits}f}',
            f'difference to {comparison.baseline}': difference(row),
            'highest validation': f'{row["best_epoch"]:.{digits}f}',
            'seeds': f'{len(row["values"])}'}

    return _without_empty([cells(row) for row in case.rows])


def cost_table(comparison: Comparison, case: Case) -> list[Row]:
    """Theory, what was counted, and seconds."""
    found = []
    for cost in case.costs:
        ratio = f'{cost.ratio:.2f}' if cost.ratio else ''
        found.append({
            'setting': cost.setting,
            'theory, a step': _ratio(cost.theory.step),
            'theory, with warm-up': _ratio(cost.theory.training),
            'counted': _ratio(cost.counted),
            'samples loaded': f'{cost.loaded:,.0f}',
            'samples back-propagated': f'{cost.backpropagated:,.0f}',
            'SGD steps': f'{cost.sgd_steps:,.0f}',
            'seconds': number(cost.seconds),
            f'cost in that of {comparison.baseline}': ratio + (
                f' ({cost.time:.2f} in seconds)' if cost.time else '')})
    return _without_empty(found)


def methods_table(comparison: Comparison, case: Case) -> list[Row]:
    """What the methods' docstrings say of their cost."""
    return [{'setting': cost.setting, 'cost in theory': cost.theory.text}
            for cost in case.costs]


def _without_empty(rows: list[Row]) -> list[Row]:
    """Rows without the columns in which there is nothing."""
    empty = [key for key in (rows[0] if rows else ())
             if all(row[key] in ('', 'baseline') for row in rows)]
    return [{key: cell for key, cell in row.items() if key not in empty}
            for row in rows]


def _ratio(value: float | None) -> str:
    return '' if value is None else f'{value:.3f}'
