"""What a model makes of training samples, without augmentation."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS
from numpy.typing import NDArray
from torch import Tensor, nn

from ..checks import require
from ..tooling.drawing import keep_transformed, packs
from ..tooling.made_up_data import datasets_of

AUGMENTED = ("The config has no pipeline of a validation: the training's own "
             'is used, with what is random in it.')


Pose = tuple[NDArray[Any], NDArray[Any], NDArray[Any], tuple[int, int]]


@dataclass
class Evaluation:
    """What a model makes of n samples.

    Attributes:
        labels (Tensor): The class that each is labeled with, shape (n, ),
            int64; empty for poses.
        probabilities (Tensor): Those of the classes, shape (n, C); empty for
            poses.
        distances (Tensor): How far the predicted keypoints are from the
            labeled ones that are visible, the mean relative to the longer
            side of the person's box, shape (n, ); empty for classes.
        exchanged (Tensor): The same with left and right of the labels
            exchanged, shape (n, ); NaN where it is unknown which they are.
        poses (list): For poses the predicted and the labeled keypoints, each
            (K, 2), which of them are visible, (K, ), and the image's height
            and width, all in pixels of the image on disk.
    """
    labels: Tensor
    probabilities: Tensor
    distances: Tensor
    exchanged: Tensor
    poses: list[Pose]

    @property
    def losses(self) -> Tensor:
        """Cross-entropy with the labels, shape (n, ), float64.

        It has the order of the probabilities of the labels.
        """
        of_labels = self.probabilities.gather(1, self.labels[:, None])[:, 0]
        return -of_labels.double().clamp(min=1e-45).log()

    @property
    def predictions(self) -> Tensor:
        """The class of the highest probability, shape (n, )."""
        return self.probabilities.argmax(1)


def evaluation_dataset(cfg: Config) -> tuple[Any, bool]:
    """The training data with the pipeline of the validation.

    So no sample is augmented, and the network sees what it sees in a test.
    Where pipelines lie in each other, as in CombinedDataset, the one that
    packs is replaced.

    Returns:
        tuple[Dataset, bool]: The data set, and whether there is a pipeline of
        a validation, or of a test; otherwise it is the training's own.
    """
    dataset = deepcopy(cfg.train_dataloader.dataset)
    pipelines = [part['pipeline'] for name in ('val', 'test') for part in
                 datasets_of(cfg.get(f'{name}_dataloader')) if packs(part)]
    for part in datasets_of(dataset):
        if pipelines and packs(part):
            part['pipeline'] = deepcopy(pipelines[0])
        if cfg.get('default_scope') == 'mmpose' and packs(part):
            keep_transformed(part)
    return DATASETS.build(dataset), bool(pipelines)


@torch.no_grad()
def evaluate(model: nn.Module, batches: Iterable[Any],
             visited: Callable[[int], Any] = lambda number: None
             ) -> Evaluation:
    """Passes samples through a model in eval mode, once.

    Args:
        model (nn.Module): The model.
        batches (Iterable): The samples, as a data loader returns them.
        visited (Callable): Called with the size of each batch. Defaults to
            nothing.

    Raises:
        ValueError: If it predicts neither classes nor keypoints, or a sample
            has not one label.
    """
    labels: list[int] = []
    probabilities: list[Tensor] = []
    distances: list[tuple[float, float]] = []
    poses = []
    model.eval()  # which returns None for backbones of mmpretrain
    step: Any = model.test_step
    for data in batches:
        samples = step(data)
        for sample in samples:
            if 'pred_score' in sample:
                labels.append(_label(sample))
                probabilities.append(sample.pred_score.float().cpu())
            else:
                distance, pose = _compare_pose(sample, model)
                distances.append(distance)
                poses.append(pose)
        visited(len(samples))
    given, exchanged = torch.tensor(distances).reshape(-1, 2).unbind(1)
    return Evaluation(
        torch.tensor(labels, dtype=torch.int64),
        torch.stack(probabilities) if probabilities else torch.empty(0),
        given, exchanged, poses)


def _label(sample: Any) -> int:
    label = sample.get('gt_label')
    require(
        label is not None and label.numel() == 1,
        'The evaluation needs one class for each sample, and '
        f'{sample.get("img_path", "one")} has '
        f'{0 if label is None else label.numel()}: leave it out with '
        '--no-evaluation.')
    return int(label)


def _compare_pose(sample: Any, model: nn.Module
                  ) -> tuple[tuple[float, float], Pose]:
    """The two distances, and what :class:`Evaluation` has of a pose."""
    predicted, labeled = sample.get('pred_instances'), sample.get(
        'gt_instances')
    require(
        predicted is not None and 'keypoints' in predicted
        and len(predicted.keypoints) == len(labeled.bboxes) == 1,
        'The evaluation needs the scores of classes, or the keypoints of one '
        f'person for each sample, which {type(model).__name__} does not '
        'predict: leave it out with --no-evaluation.')
    visible = np.asarray(labeled.keypoints_visible[0])
    if visible.ndim == 2:
        visible = visible[:, 0]
    points = np.asarray(predicted.keypoints[0])[:, :2]
    truth = np.asarray(labeled.keypoints[0])[:, :2]
    left, top, right, bottom = np.asarray(labeled.bboxes[0])[:4]
    side = max(right - left, bottom - top, 1.)

    def distance(others: NDArray[Any], seen: NDArray[Any]) -> float:
        apart = np.linalg.norm(points - others, axis=-1)[seen > 0]
        return float(apart.mean() / side) if len(apart) else float('nan')

    flip = sample.get('flip_indices')
    exchanged = float('nan') if flip is None else distance(
        truth[list(flip)], visible[list(flip)])
    height, width = sample.metainfo['ori_shape'][:2]
    return (distance(truth, visible), exchanged), (
        points, truth, visible > 0, (int(height), int(width)))
