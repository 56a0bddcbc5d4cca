"""What a method keeps of each parameter from one step to a later one."""

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

_PREFIX = 'ausam_'


class ParamState:
    """One tensor for each parameter, such as a gradient or its average.

    In a checkpoint it lies in the optimizer's own state, beside the momentum,
    which every strategy (FSDP, too) saves and shards with the parameter. It
    is there only while a checkpoint is made: Adam treats a parameter with
    non-empty state as initialized.

    Args:
        name (str): What the tensor is called in the optimizer's state.
    """

    def __init__(self, name: str) -> None:
        self.name = f'{_PREFIX}{name}'
        self._tensors: dict[Tensor, Tensor] = {}

    def __len__(self) -> int:
        return len(self._tensors)

    @torch.no_grad()
    def of(self, params: list[nn.Parameter]) -> list[Tensor]:
        """The tensors of some parameters, zeros for those without one.

        Returns:
            list[Tensor]: The kept tensors themselves, to change in place.
        """
        for p in params:
            if p not in self._tensors:
                self._tensors[p] = torch.zeros_like(p, requires_grad=False)
        return [self._tensors[p] for p in params]

    @torch.no_grad()
    def keep(self, params: list[nn.Parameter], values: list[Tensor],
             valid: Tensor) -> None:
        """Keeps new values in place of the old ones.

        Args:
            params (list[nn.Parameter]): The parameters.
            values (list[Tensor]): Their new values.
            valid (Tensor): Whether to keep them, shape (), bool: what comes
                of an overflow must not stay.
        """
        for old, new in zip(self.of(params), values):
            old.copy_(torch.where(valid, new, old))

    def put_into(self, optimizer: Optimizer) -> None:
        """Shows the tensors to what saves the optimizer's state."""
        for p, value in self._tensors.items():
            optimizer.state[p][self.name] = value

    def take_from(self, optimizer: Optimizer) -> None:
        """Takes up what :meth:`put_into` put there, now or in a checkpoint."""
        self._tensors = {}
        for p, state in list(optimizer.state.items()):
            if self.name in state:
                self._tensors[p] = state.pop(self.name)
            if not state:
                del optimizer.state[p]


def forget_others(optimizer: Optimizer) -> None:
    """Drops what a checkpoint holds of other methods' ParamStates.

    Args:
        optimizer (Optimizer): The optimizer, its own ParamStates taken out.
    """
    for state in optimizer.state.values():
        for name in [name for name in state if name.startswith(_PREFIX)]:
            del state[name]
