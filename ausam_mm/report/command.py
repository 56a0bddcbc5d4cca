"""What tools/report.py does: from folders and files to a page."""

from collections.abc import Sequence
from pathlib import Path

from ..checks import require
from ..tooling.studies import Study, write
from .analyses import given_analyses, read_analysis
from .comparison import Comparison
from .of_study import compare_study, find_study, is_study
from .of_trainings import compare_trainings
from .page import render
from .runs import find_trainings, name_apart, read_training


def compare(paths: Sequence[Path], metric: str | None = None,
            baseline: str | None = None,
            work_dir: Path | None = None) -> list[Comparison]:
    """A comparison of the trainings among paths, and one for each study.

    Args:
        paths (Sequence[Path]): Folders of trainings, or of such folders;
            files of studies, or folders of their results.
        metric (str, optional): The metric of trainings. Defaults to None,
            for the first one that most of them have.
        baseline (str, optional): The setting of trainings that differences
            are to. Defaults to None, for the first one without a method.
        work_dir (Path, optional): Where the trainings of a study wrote.
            Defaults to None, for work_dirs/studies/<study>.

    Raises:
        ValueError: If a path is neither, or nothing is trained in it yet.
        SystemExit: If a file is no study.
    """
    folders = [folder for path in paths if not is_study(path)
               for folder in find_trainings(path)]
    trainings = [read_training(folder)
                 for folder in dict.fromkeys(folders)]
    name_apart(trainings)
    found = []
    if trainings:
        require(
            any(training.steps for training in trainings),
            f'{trainings[0].path} has no line of training yet: wait until '
            'its log has one, or name another work_dir.')
        found.append(compare_trainings(trainings, metric, baseline))
    return found + [compare_study(find_study(path), work_dir)
                    for path in paths if is_study(path)]


def write_page(comparisons: Sequence[Comparison], analyses: Sequence[Path],
               out: Path, command: str) -> None:
    """Writes the page.

    Args:
        comparisons (Sequence[Comparison]): What is compared.
        analyses (Sequence[Path]): Folders of analyses, or of such folders.
        out (Path): The file.
        command (str): What makes the page again.

    Raises:
        ValueError: If a folder has no analysis, or the page gets too large.
    """
    write(out, render(comparisons, [
        read_analysis(folder) for folder in given_analyses(analyses)],
        command))


def write_studies(studies: Sequence[Study], work_dirs: Sequence[Path],
                  out: Path, command: str) -> None:
    """Writes the page of some studies.

    Args:
        studies (Sequence[Study]): The studies.
        work_dirs (Sequence[Path]): Where the trainings of each wrote.
        out (Path): The file.
        command (str): What trains them, and makes the page.

    Raises:
        ValueError: If no run of a study is finished, or the page gets too
            large.
    """
    comparisons = [compare_study(study, work_dir)
                   for study, work_dir in zip(studies, work_dirs)]
    for comparison in comparisons:
        comparison.commands = [command]
    write_page(comparisons, [], out, command)
