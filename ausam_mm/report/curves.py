"""Curves of a training, in as many points as a page needs."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

# By 'step', 'epochs', 'seconds', 'samples', 'sgd_steps' and 'value'.
Point = dict[str, float]
# More than this no one sees on a screen.
POINTS = 120


@dataclass
class Line:
    """A line of a plot.

    Attributes:
        setting (str): The setting that it is of.
        name (str): What it is called; the setting, or an unfinished training.
        points (list[dict]): Its points.
        finished (bool): Whether the training is. Defaults to True.
    """
    setting: str
    name: str
    points: list[Point]
    finished: bool = True


def thin(points: Sequence[Point], number: int = POINTS) -> list[Point]:
    """Means of neighbours, each where the last of them is.

    Values that are not finite are left out.
    """
    finite = [point for point in points if math.isfinite(point['value'])]
    if len(finite) <= number:
        return finite
    parts = groupby(enumerate(finite), lambda item:
                    item[0] * number // len(finite))
    found = []
    for _, part in parts:
        group = [point for _, point in part]
        found.append(dict(group[-1], value=statistics.mean(
            point['value'] for point in group)))
    return found


def mean_of(curves: Sequence[Sequence[Point]]) -> list[Point]:
    """Means over seeds, at the steps that all of them have."""
    by_step = [{point['step']: point for point in curve} for curve in curves]
    shared = [step for step in by_step[0]
              if all(step in points for points in by_step)]
    return [{key: statistics.mean(points[step][key] for points in by_step)
             for key in by_step[0][step]} for step in shared]
