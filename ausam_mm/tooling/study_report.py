"""Table, figure and JSON of a study."""

import json
import math
import os
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image
from scipy.special import stdtrit

from .reports import Parts, Row, console, markdown_of, table_of
from .studies import Result, Study, write

# Results of a setting in a case, by seed.
Seeds = dict[int, Result]
LEGEND = (
    'Means over seeds. Difference: seed by seed, with the 95 % interval of '
    "Student's t. SGD steps: the cost, all passes counted, in steps of SGD on "
    'full batches. Seconds: training without validation. Cost: steps times '
    'batch size, and seconds in brackets, in those of the setting that '
    'differences are to. '
    'Speed-up: over the setting SAM. Seconds are compared where both were '
    'trained on the same machine, with as many trainings side by side. Best '
    'epoch: the best validation of each training, which no one can choose '
    'without clean labels.')

# Columns for which a terminal has no room.
FILE_ONLY = ('seeds', 'SGD\nsteps', 'images/s')


def interval(values: Sequence[float]) -> list[float] | None:
    """The 95 % interval of a mean by Student's t; None of one value.

    Example:
        >>> from ausam_mm.tooling.study_report import interval
        >>> [round(end, 2) for end in interval([1., 2., 3.])]
        [-0.48, 4.48]
    """
    n = len(values)
    if n < 2:
        return None
    half = float(stdtrit(n - 1, 0.975)) * statistics.stdev(values) / \
        math.sqrt(n)
    mean = statistics.mean(values)
    return [mean - half, mean + half]


def difference(first: Seeds, second: Seeds, factor: float) -> Result | None:
    """Mean and interval of first minus second over the seeds of both."""
    values = [factor * (first[seed]['value'] - second[seed]['value'])
              for seed in sorted(first.keys() & second.keys())]
    if not values:
        return None
    return dict(mean=statistics.mean(values), interval=interval(values),
                seeds=len(values))


def time_ratio(first: Seeds, second: Seeds) -> float | None:
    """Seconds of the first to the second's, the median over seeds."""
    ratios = [result['seconds'] / second[seed]['seconds']
              for seed, result in first.items() if seed in second and all(
                  second[seed][key] == result[key] for key in
                  ('machine', 'jobs'))]
    return statistics.median(ratios) if ratios else None


def summarize_study(study: Study) -> dict[str, Any]:
    """Everything that is finished: rows by case, and what decides."""
    results: dict[str, dict[str, Seeds]] = {
        case: {setting: {} for setting in study.settings}
        for case in study.cases}
    for run in study.runs():
        result = study.result_of(run)
        if result:
            batch = study.config_of(run).train_dataloader.get('batch_size', 1)
            results[run.case][run.setting][run.seed] = dict(
                result, cost=batch * result['sgd_steps'])
    cases = []
    for case, by_setting in results.items():
        rows = [dict(row_of(setting, by_setting, study.reference,
                            study.factor),
                     curve=_curve(study, list(seeds.values())))
                for setting, seeds in by_setting.items() if seeds]
        cases.append(dict(case=case, rows=rows, decides=[
            difference(by_setting[first], by_setting[second], study.factor)
            for first, second in study.comparisons]))
    there = [result for by_setting in results.values()
             for seeds in by_setting.values() for result in seeds.values()]
    return dict(
        study=study.name, question=study.question, metric=study.metric,
        comparisons=[*map(list, study.comparisons)], baseline=study.reference,
        finished=len(there), runs=len(list(study.runs())), cases=cases,
        machines=sorted({
            f'{result["machine"]}, {result["jobs"]} side by side'
            for result in there}))


def row_of(setting: str, by_setting: dict[str, Seeds], baseline: str,
           factor: float) -> dict[str, Any]:
    """What a setting reaches and costs, means over its seeds.

    Args:
        setting (str): Its name.
        by_setting (dict[str, dict]): The results of all settings, by seed.
        baseline (str): The setting that differences and costs are to.
        factor (float): What makes the metric percent.
    """
    seeds = by_setting[setting]
    values = {seed: factor * result['value']
              for seed, result in seeds.items()}
    mean = {key: statistics.mean(result[key] for result in seeds.values())
            for key in ('sgd_steps', 'seconds', 'samples_loaded',
                        'samples_backpropagated')}
    reference = by_setting[baseline]
    cost = [result['cost'] / reference[seed]['cost']
            for seed, result in seeds.items() if seed in reference]
    return dict(
        setting=setting, values=values,
        mean=statistics.mean(values.values()),
        interval=interval(list(values.values())),
        best_epoch=factor * statistics.mean(
            max(point['value'] for point in result['curve'])
            for result in seeds.values()),
        difference=None if setting == baseline else difference(
            seeds, reference, factor),
        **mean, cost=statistics.mean(cost) if cost else None,
        time=time_ratio(seeds, reference),
        images_per_second=mean['samples_loaded'] / mean['seconds'],
        speed_up_over_sam=time_ratio(by_setting.get('SAM', {}), seeds))


def _curve(study: Study, results: list[Result]) -> list[list[float]]:
    """SGD steps and metric, means over seeds, at validations of all."""
    points = [{point['step']: point for point in result['curve']}
              for result in results]
    shared = [step for step in points[0] if all(step in p for p in points)]
    return [[statistics.mean(p[step]['sgd_steps'] for p in points),
             study.factor * statistics.mean(p[step]['value'] for p in points)]
            for step in shared]


def with_interval(value: Result | None, digits: int = 2) -> str:
    """A difference, for people."""
    if value is None:
        return ''
    text = f'{value["mean"]:+.{digits}f}'
    if value['interval']:
        low, high = value['interval']
        text += f' [{low:+.{digits}f}, {high:+.{digits}f}]'
    return text


def tables(study: Study, summary: dict[str, Any]) -> list[Parts]:
    """A table for each case."""
    parts = []
    for case in summary['cases']:
        rows: list[Row] = []
        for row in case['rows']:
            cells = {
                'setting': row['setting'],
                'mean\n[%]': f'{row["mean"]:.2f}',
                'difference': with_interval(row['difference']),
                'best\nepoch': f'{row["best_epoch"]:.2f}',
                'seeds': f'{len(row["values"])}',
                'SGD\nsteps': f'{row["sgd_steps"]:,.0f}',
                'seconds': f'{row["seconds"]:,.0f}',
                'cost': _cost(row),
                'images/s': f'{row["images_per_second"]:,.0f}'}
            if 'SAM' in study.settings:
                ratio = row['speed_up_over_sam']
                cells['speed-up'] = f'{ratio:.2f}' if ratio else ''
            rows.append(cells)
        if rows:
            verdict = '; '.join(
                f'{first} minus {second} {with_interval(value)} over '
                f'{value["seeds"]} seed{"s" * (value["seeds"] > 1)}'
                if value else
                f'{first} and {second} share no finished seed yet'
                for (first, second), value in zip(
                    study.comparisons, case['decides']))
            title = f'{case["case"] or study.name}: {study.metric}, ' \
                f'differences to {study.reference}'
            parts.append((title, rows, f'{verdict}.'))
    return parts


def _cost(row: dict[str, Any]) -> str:
    """Steps to the baseline's, and seconds in brackets."""
    text = f'{row["cost"]:.2f}' if row['cost'] else ''
    return text + (f' ({row["time"]:.2f})' if row['time'] else '')


def markdown(study: Study, summary: dict[str, Any], command: str,
             figure: str) -> str:
    """Question, tables, figure and reading, for a page.

    Args:
        study (Study): The study.
        summary (dict): What :func:`summarize_study` returns.
        command (str): What runs the study.
        figure (str): Where the figure lies, as seen from the page.
    """
    blocks = [study.question, f'```bash\n{command}\n```']
    if not summary['finished']:
        return '\n\n'.join([*blocks, 'No run is finished yet.'])
    blocks += [markdown_of(f'**{title}**', rows, f'**Decides:** {verdict}')
               .strip() for title, rows, verdict in tables(study, summary)]
    blocks += [f'![seeds, means and curves]({figure})', LEGEND]
    if summary['finished'] < summary['runs']:
        blocks.append(f'{summary["finished"]} of {summary["runs"]} runs are '
                      'finished.')
    blocks.append(f'Machine: {"; ".join(summary["machines"])}.')
    if study.reading:
        blocks.append(f'**Reading:** {study.reading}')
    return '\n\n'.join(blocks)


def short_markdown(study: Study, summary: dict[str, Any]) -> str:
    """What each setting of the first case reaches and costs, for a page."""
    rows: list[Row] = [{
        'setting': row['setting'],
        f'{study.metric} [%]': f'{row["mean"]:.1f}',
        f'gain over {study.reference}': with_interval(row['difference']),
        'cost (seconds)': _cost(row)
    } for row in summary['cases'][0]['rows']]
    return markdown_of('', rows).strip() if rows else 'No run is finished yet.'


def print_report(study: Study, legend: bool = True) -> None:
    """Prints the tables.

    Args:
        study (Study): The study.
        legend (bool): Whether to say what the columns are. Defaults to True.
    """
    terminal = console()
    summary = summarize_study(study)
    for title, rows, verdict in tables(study, summary):
        narrow = [{name: cell for name, cell in row.items()
                   if name not in FILE_ONLY} for row in rows]
        terminal.print(table_of(title, narrow, verdict), '')
    if legend:
        terminal.print(LEGEND, markup=False)
    terminal.print(
        f'{summary["finished"]} of {summary["runs"]} runs are finished. '
        f'Written to {study.results}: table.md, summary.json, figure.png, '
        'cost.png.', markup=False)


def write_report(study: Study) -> None:
    """Writes table.md, summary.json and two figures into the results."""
    summary = summarize_study(study)
    path = Path(os.path.relpath(study.path)).as_posix()
    scale = f' --scale {study.scale}' if study.scale else ''
    write(study.results / 'table.md', markdown(
        study, summary, f'python tools/study.py {path}{scale}',
        'figure.png') + '\n')
    write(study.results / 'summary.json', json.dumps(summary, indent=1) + '\n')
    draw(study, summary)
    draw_cost(study, summary)


def draw(study: Study, summary: dict[str, Any]) -> None:
    """Draws for each case seeds with intervals, and curves over the cost."""
    cases = [case for case in summary['cases'] if case['rows']]
    heights = [max(3., 1.2 + 0.35 * len(case['rows'])) for case in cases]
    figure = Figure(figsize=(11, sum(heights)), layout='constrained')
    grid = figure.subplots(
        len(cases), 2, squeeze=False, height_ratios=heights)
    colors = _colors(study)
    panels: tuple[Callable[[Axes, Any, str, int], None], ...] = (
        _draw_seeds, _draw_curve)
    for axes, case in zip(grid, cases):
        for axis, panel in zip(axes, panels):
            for place, row in enumerate(case['rows']):
                panel(axis, row, colors[row['setting']], place)
            axis.set_title(case['case'], fontsize=10)
            axis.grid(alpha=0.3)
        axes[0].set_yticks(range(len(case['rows'])), [
            row['setting'] for row in case['rows']], fontsize=8)
        axes[0].set_ylim(len(case['rows']) - 0.5, -0.5)
        # Of two seeds an interval may be many times as wide as all seeds.
        values = [value for row in case['rows']
                  for value in row['values'].values()]
        room = max(0.5, 0.25 * (max(values) - min(values)))
        axes[0].set_xlim(min(values) - room, max(values) + room)
        axes[0].set_xlabel(f'{study.metric} [%]: seeds, mean, 95 % interval')
        axes[1].set_xlabel('cost in SGD steps')
        axes[1].set_ylabel(f'{study.metric} [%], mean of seeds')
    _save(figure, study.results / 'figure.png')


def draw_cost(study: Study, summary: dict[str, Any]) -> None:
    """Draws the metric over the cost, in the first case."""
    case = next(case for case in summary['cases'] if case['rows'])
    rows = [row for row in case['rows'] if row['cost']]
    figure = Figure(figsize=(7.5, max(4., 0.22 * len(rows))),
                    layout='constrained')
    axis = figure.subplots()
    colors = _colors(study)
    places = _side_by_side([row['cost'] for row in rows])
    for number, (place, row) in enumerate(zip(places, rows)):
        low, high = row['interval'] or (row['mean'], row['mean'])
        axis.errorbar(
            place, row['mean'],
            yerr=[[row['mean'] - low], [high - row['mean']]], capsize=3,
            fmt='osD^vP*X<>'[number % 10], color=colors[row['setting']],
            fillstyle=('full', 'none', 'left')[number // 10 % 3],
            label=row['setting'])
    axis.set_title(case['case'], fontsize=10)
    axis.set_xlabel(f'cost, in that of {study.reference}; side by side where '
                    'equal')
    axis.set_ylabel(f'{study.metric} [%], mean and 95 % interval')
    axis.grid(alpha=0.3)
    if rows:  # none before the baseline is finished
        figure.legend(loc='outside right upper', fontsize=8)
    _save(figure, study.results / 'cost.png')


def _side_by_side(costs: list[float]) -> list[float]:
    """Costs, of which those that are about equal stand side by side."""
    order = sorted(range(len(costs)), key=costs.__getitem__)
    groups: list[list[int]] = []
    for i in order:
        if groups and costs[i] - costs[groups[-1][-1]] < 0.05:
            groups[-1].append(i)
        else:
            groups.append([i])
    places = [0.] * len(costs)
    for group in groups:
        step = min(0.03, 0.3 / len(group))
        for number, i in enumerate(sorted(group)):
            places[i] = costs[i] + step * (number - (len(group) - 1) / 2)
    return places


def _colors(study: Study) -> dict[str, str]:
    return {setting: f'C{i % 10}' for i, setting in enumerate(study.settings)}


def _save(figure: Figure, path: Path) -> None:
    """Writes a picture whole, or not at all if the process is killed."""
    part = path.with_suffix('.part.png')
    figure.savefig(part, dpi=100)
    # A palette: pictures are committed, and this is a third of their bytes.
    with Image.open(part) as picture:
        drawn = picture.convert('RGB').quantize()
    drawn.save(part, optimize=True)
    part.replace(path)


def _draw_seeds(axis: Axes, row: Any, color: str, place: int) -> None:
    values = list(row['values'].values())
    axis.plot(values, [place] * len(values), '.', color=color, alpha=0.5)
    low, high = row['interval'] or (row['mean'], row['mean'])
    axis.errorbar(row['mean'], place, fmt='o', color=color, capsize=4,
                  xerr=[[row['mean'] - low], [high - row['mean']]])


def _draw_curve(axis: Axes, row: Any, color: str, place: int) -> None:
    axis.plot(*zip(*row['curve']), color=color,
              linestyle=('-', '--', ':')[place // 10 % 3])
