"""Images of training samples with label, prediction and loss."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.runner import set_random_seed
from torch import Tensor, nn

from ..checks import require
from ..tooling.drawing import Drawer, Image
from ..tooling.settings import build_model
from .evaluation import Evaluation, evaluate, evaluation_dataset
from .samples import Samples


def load_model(cfg: Config, checkpoint: dict[str, Any],
               path: Path) -> nn.Module:
    """The model of a config with the weights of a checkpoint.

    Raises:
        ValueError: If they do not fit.
    """
    model = build_model(cfg)
    try:
        model.load_state_dict(checkpoint['state_dict'])
    except RuntimeError as error:
        raise does_not_fit(path) from error
    return model


def does_not_fit(path: Path) -> ValueError:
    """The error of a checkpoint of another model."""
    return ValueError(f'{path} does not fit the model of the config: name the '
                      'config that it was trained with.')


def gallery_of(cfg: Config, model: nn.Module, samples: Samples,
               places: Tensor, collate: Callable[[list[Any]], Any], seed: int
               ) -> tuple[list[tuple[Image, str, bool]], bool]:
    """Draws samples, as :func:`evaluation_dataset` returns them.

    Args:
        cfg (Config): The config.
        model (nn.Module): The model, on its device.
        samples (Samples): The samples of the training data.
        places (Tensor): Positions in ``samples``, shape (n, ).
        collate (Callable): What makes a batch of samples.
        seed (int): Of a pipeline that is random.

    Returns:
        tuple: Of each sample the image, what the model makes of it, and
        whether its label is known to be wrong; and whether the pipeline is
        that of a validation.

    Raises:
        ValueError: If the samples are no images of mmpretrain or mmpose.
    """
    require(cfg.get('default_scope') in ('mmpretrain', 'mmpose'),
            'Only images of mmpretrain and mmpose can be drawn: leave them '
            'out with --show-number 0.')
    dataset, validation = evaluation_dataset(cfg)
    drawer = Drawer(cfg, dataset)
    set_random_seed(seed)
    found = []
    for i in places.tolist():
        index = int(samples.indices[i])
        sample = dataset[index]
        image = drawer.transformed(sample) if drawer.poses \
            else drawer.enlarged(drawer.plain(sample))
        # Alone: images may differ in size.
        one = evaluate(model, [collate([sample])])
        wrong = samples.wrong is not None and bool(samples.wrong[i])
        text = _words_of_pose(one) if drawer.poses else _words_of_class(
            one, samples, dataset.get_data_info(index), wrong)
        found.append((image, text, wrong))
    return found, validation


def _words_of_class(one: Evaluation, samples: Samples, info: dict[str, Any],
                    wrong: bool) -> str:

    def name(label: int) -> str:
        return textwrap.shorten(samples.name_of(label), 20, placeholder='...')

    true = f' (true: {name(int(info["true_label"]))})' if wrong else ''
    return (f'labeled {name(int(one.labels))}{true}\n'
            f'predicted {name(int(one.predictions))}, '
            f'loss {float(one.losses):.3g}')


def _words_of_pose(one: Evaluation) -> str:
    return f'distance {float(one.distances):.3g} of the box'
