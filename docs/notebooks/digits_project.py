"""A small MMEngine project: handwritten digits, a network and a metric."""

import numpy as np
import torch
from mmengine.dataset import BaseDataset
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, METRICS, MODELS
from sklearn.datasets import load_digits
from torch import nn


@DATASETS.register_module()
class Digits(BaseDataset):
    """Scikit-learn's handwritten digits; every fifth is one of the test."""

    METAINFO = dict(classes=tuple('0123456789'))

    def __init__(self, test=False, **kwargs):
        self.test = test
        super().__init__(**kwargs)

    def load_data_list(self):
        digits = load_digits()
        return [dict(image=image, gt_label=int(label)) for i, (image, label)
                in enumerate(zip(digits.images, digits.target))
                if (i % 5 == 4) == self.test]

    def prepare_data(self, idx):
        info = self.get_data_info(idx)
        image = torch.from_numpy(info['image']).float()[None] / 8 - 1
        return dict(image=image, label=info['gt_label'],
                    sample_idx=info['sample_idx'])


@MODELS.register_module()
class DigitNet(BaseModel):
    """Two convolutions and two linear layers."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(),
            nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(),
            nn.MaxPool2d(2), nn.Flatten(),
            nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, 10))
        self.loss = nn.CrossEntropyLoss()

    def forward(self, image, label, sample_idx, mode='tensor'):
        scores = self.layers(image)
        if mode == 'loss':
            return dict(loss=self.loss(scores, label))
        return [dict(right=right) for right in scores.argmax(1) == label]


@METRICS.register_module()
class DigitsRead(BaseMetric):
    """How many digits are read right, in percent."""

    def process(self, data_batch, data_samples):
        self.results += [bool(one['right']) for one in data_samples]

    def compute_metrics(self, results):
        return dict(accuracy=100 * float(np.mean(results)))
