"""Lists of samples for a spreadsheet, FiftyOne and Label Studio."""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .evaluation import Pose

# Where Label Studio serves files of its own machine, below
# LOCAL_FILES_DOCUMENT_ROOT.
LOCAL_FILES = '/data/local-files/?d='


@dataclass
class Suspect:
    """A sample of a list.

    Attributes:
        rank (int): Its place, from 1.
        index (int): Its index in the data set.
        path (str): Its image.
        label (str): The name of the class it is labeled with; empty if it
            has none.
        prediction (str): The class that the model predicts; empty without.
        confidence (float, optional): The probability of the predicted class.
        values (dict[str, float | None]): What ranks it, by name.
        wrong (bool, optional): Whether its label is known to be wrong; None
            where nobody knows.
        pose (Pose, optional): Its keypoints, as in :class:`Evaluation`.
    """
    rank: int
    index: int
    path: str
    label: str
    prediction: str = ''
    confidence: float | None = None
    values: dict[str, float | None] = field(default_factory=dict)
    wrong: bool | None = None
    pose: Pose | None = None


def write_csv(suspects: Iterable[Suspect], path: Path) -> None:
    """Writes a line for each sample."""
    with path.open('w', newline='', encoding='utf-8') as file:
        writer = csv.writer(file)
        head = False
        for one in suspects:
            if not head:
                writer.writerow(['rank', 'index', 'path', 'label',
                                 'prediction', *one.values, 'wrong'])
                head = True
            writer.writerow([
                one.rank, one.index, one.path, one.label, one.prediction,
                *('' if value is None else f'{value:.6g}'
                  for value in one.values.values()),
                '' if one.wrong is None else int(one.wrong)])


def write_fiftyone(suspects: Iterable[Suspect], folder: Path,
                   keypoints: list[str]) -> None:
    """Writes a folder that FiftyOne reads as a FiftyOneDataset.

    Args:
        suspects (Iterable[Suspect]): The samples.
        folder (Path): The folder.
        keypoints (list[str]): The names of keypoints, for poses.
    """
    folder.mkdir(parents=True, exist_ok=True)
    samples = []
    for one in suspects:
        sample: dict[str, Any] = dict(
            filepath=os.path.abspath(one.path),
            tags=['wrong label'] if one.wrong else [],
            rank=one.rank, dataset_index=one.index)
        sample.update({_field(name): value
                       for name, value in one.values.items()})
        if one.label:
            sample['ground_truth'] = dict(
                _cls='Classification', label=one.label)
        if one.prediction:
            sample['prediction'] = dict(
                _cls='Classification', label=one.prediction,
                confidence=one.confidence)
        if one.pose is not None:
            sample.update({name: dict(_cls='Keypoints', keypoints=[dict(
                _cls='Keypoint', label='person', points=points)])
                for name, points in _relative(one.pose).items()})
        samples.append(sample)
    info: dict[str, Any] = dict(info={})
    if keypoints:
        info['info']['keypoints'] = keypoints
    (folder / 'metadata.json').write_text(json.dumps(info))
    (folder / 'samples.json').write_text(json.dumps(dict(samples=samples)))


def write_label_studio(suspects: Iterable[Suspect], path: Path,
                       keypoints: list[str]) -> None:
    """Writes tasks with the label and the prediction to choose from.

    Args:
        suspects (Iterable[Suspect]): The samples.
        path (Path): The file.
        keypoints (list[str]): The names of keypoints, for poses.
    """
    tasks = []
    for one in suspects:
        predictions: list[dict[str, Any]] = []
        if one.pose is not None:
            for name, points in _relative(one.pose).items():
                predictions.append(dict(
                    model_version=name, result=_points(one, points,
                                                       keypoints)))
        else:
            for name, label, score in (
                    ('ground_truth', one.label, None),
                    ('prediction', one.prediction, one.confidence)):
                if label:
                    predictions.append(dict(model_version=name, result=[dict(
                        from_name='label', to_name='image', type='choices',
                        value=dict(choices=[label]))]))
                    if score is not None:
                        predictions[-1]['score'] = score
        tasks.append(dict(
            data=dict(image=LOCAL_FILES + one.path.lstrip('/'), rank=one.rank,
                      index=one.index, **{_field(name): value for name, value
                                          in one.values.items()}),
            predictions=predictions))
    path.write_text(json.dumps(tasks))


def _field(name: str) -> str:
    """A name of letters, as fields have."""
    return ''.join(c if c.isalnum() else '_' for c in name.lower()).replace(
        '__', '_')


def _relative(pose: Pose) -> dict[str, list[list[float]]]:
    """Keypoints relative to the image; NaN for those that are not there."""
    predicted, labeled, visible, (height, width) = pose

    def points(places: Any, seen: Any) -> list[list[float]]:
        return [[x / width, y / height] if there else [math.nan, math.nan]
                for (x, y), there in zip(places.tolist(), seen)]

    return dict(ground_truth_pose=points(labeled, visible.tolist()),
                prediction_pose=points(predicted, [True] * len(predicted)))


def _points(one: Suspect, points: list[list[float]],
            keypoints: list[str]) -> list[dict[str, Any]]:
    assert one.pose is not None
    height, width = one.pose[3]
    return [dict(
        from_name='keypoints', to_name='image', type='keypointlabels',
        original_width=width, original_height=height, image_rotation=0,
        value=dict(x=100 * x, y=100 * y, width=1, keypointlabels=[name]))
        for name, (x, y) in zip(keypoints, points) if not math.isnan(x)]
