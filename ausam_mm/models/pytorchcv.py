"""The networks of pytorchcv as backbones."""

from typing import Any

import torch
from mmengine.model import BaseModule
from mmengine.registry import MODELS


@MODELS.register_module()
class PytorchCVBackbone(BaseModule):
    """A network of pytorchcv up to its last feature map.

    mmpretrain has the networks of timm (``TIMMBackbone``); the wide and
    pyramidal residual networks for small images, which papers on SAM train,
    are in `pytorchcv <https://github.com/osmr/pytorchcv>`_.

    Args:
        model_name (str): A network of pytorchcv, such as
            ``'wrn28_10_cifar10'``. Pooling and classifier are left to the
            model's neck and head.
        init_cfg (dict, optional): How MMEngine initializes it. Defaults to
            pytorchcv's own initialization.
        **kwargs: Passed on to the network, such as ``in_size``.

    Raises:
        ImportError: If pytorchcv is not installed.
        ValueError: If pytorchcv has no such network.

    Examples:
        >>> backbone = dict(type='PytorchCVBackbone',
        ...                 model_name='pyramidnet110_a270_cifar10')
    """

    def __init__(self, model_name: str, init_cfg: dict[str, Any] | None = None,
                 **kwargs: Any) -> None:
        super().__init__(init_cfg)
        try:
            from pytorchcv.model_provider import get_model
        except ImportError as error:
            raise ImportError(
                'PytorchCVBackbone takes its networks from pytorchcv: '
                'install it with `pip install pytorchcv`.') from error
        self.features = get_model(model_name, **kwargs).features
        if hasattr(self.features, 'final_pool'):
            del self.features.final_pool

    def forward(self, inputs: torch.Tensor) -> tuple[torch.Tensor]:
        """Computes the last feature map.

        Args:
            inputs (Tensor): Images of shape (b, 3, H, W).

        Returns:
            tuple[Tensor]: One map of shape (b, C, H', W').
        """
        return (self.features(inputs), )
