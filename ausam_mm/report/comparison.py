"""What a report compares: settings, their accuracy, curves and cost."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from .analyses import Analysis
from .configs import Settings
from .curves import Line
from .theory import Theory


@dataclass
class Cost:
    """What a setting cost, means over its trainings.

    Attributes:
        setting (str): The setting.
        theory (Theory): What it costs in theory.
        counted (float, optional): Passes of samples to samples of its full
            batches, as the wrapper counted them; None where it is unknown.
        loaded (float): Samples loaded.
        backpropagated (float): Samples back-propagated; each pass counts.
        sgd_steps (float): The same in steps of SGD on full batches.
        seconds (float): Seconds of training and loading.
        ratio (float, optional): Cost in the baseline's.
        time (float, optional): Seconds in the baseline's, where both were
            measured under the same conditions.
        finished (bool): Whether a training of it is finished. Defaults to
            True.
    """
    setting: str
    theory: Theory
    counted: float | None
    loaded: float
    backpropagated: float
    sgd_steps: float
    seconds: float
    ratio: float | None = None
    time: float | None = None
    finished: bool = True


@dataclass
class Case:
    """What is compared under the same conditions.

    Attributes:
        title (str): Its name; empty where there is one case only.
        rows (list[dict]): What each setting reaches, as
            :func:`~ausam_mm.tooling.study_report.row_of` returns it, with
            the setting ('of') and whether it is 'finished'.
        verdict (str): What decides, in words.
        curves (dict[str, list[Line]]): Lines by the name of the scalar.
        costs (list[Cost]): What each setting costs.
    """
    title: str
    rows: list[dict[str, Any]]
    verdict: str
    curves: dict[str, list[Line]]
    costs: list[Cost]


@dataclass
class Comparison:
    """Trainings, or a study.

    Attributes:
        title (str): Its name.
        text (list[str]): What it asks, and what it found, in words.
        metric (str): The metric; empty if there is none.
        unit (str): '%', or nothing.
        digits (int): Decimals of the metric.
        baseline (str): The setting that differences are to.
        settings (dict[str, dict]): The settings by their names.
        trainings (dict[str, str]): What there is of each setting, such as
            'seed 0'.
        cases (list[Case]): What is compared.
        x_title (str): 'epochs', or 'iterations'.
        notes (list[tuple[str, str]]): A training, and a sentence on it.
        quiet (str): What is said of all others.
        warnings (list[tuple[str, str]]): Warnings of logs, and how often.
        environment (list[tuple[str, str]]): Names and values.
        commands (list[str]): What repeats it.
        analyses (list[Analysis]): What was found of its models.
    """
    title: str
    text: list[str]
    metric: str
    unit: str
    digits: int
    baseline: str
    settings: dict[str, Settings]
    trainings: dict[str, str]
    cases: list[Case]
    x_title: str = 'epochs'
    notes: list[tuple[str, str]] = field(default_factory=list)
    quiet: str = ''
    warnings: list[tuple[str, str]] = field(default_factory=list)
    environment: list[tuple[str, str]] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)
    analyses: list[Analysis] = field(default_factory=list)

    @property
    def metric_title(self) -> str:
        """The metric with its unit."""
        return f'{self.metric} [{self.unit}]' if self.unit else self.metric

    def color(self, setting: str) -> int:
        """The place of a setting, which is its color's."""
        return list(self.settings).index(setting)


def deviations(costs: Sequence[Cost], tolerance: float = 0.05) -> list[str]:
    """Sentences on settings whose cost is not what theory says."""
    return [
        f'{cost.setting} counted {cost.counted:.2f} for each sample of its '
        f'full batches, and theory says {cost.theory.training:.2f}.'
        for cost in costs if cost.finished
        and cost.counted and cost.theory.training
        and abs(cost.counted / cost.theory.training - 1) > tolerance]
