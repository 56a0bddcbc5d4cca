"""MMEngine's strategy for sharded parameters, with a resume that works."""

from typing import Any

from mmengine._strategy import FSDPStrategy
from mmengine.dist import all_gather_object
from mmengine.optim import AmpOptimWrapper
from mmengine.registry import OPTIM_WRAPPERS, STRATEGIES
from torch import nn
from torch.distributed.fsdp import FullyShardedDataParallel

from ..engine.distributed import from_group_state, to_group_state


@STRATEGIES.register_module()
class ResumableFSDPStrategy(FSDPStrategy):
    """``FSDPStrategy`` that resumes the optimizer with any OptimWrapper.

    MMEngine up to 0.10 hands ``optim_state_dict_to_load`` its arguments in
    the order of PyTorch before 2.1, so that resuming raises an error. FSDP
    keeps only the param-group part of non-parameter state, so that a method's
    state and the scale of the losses lie in the first group. Where an
    :class:`AmpOptimWrapper` is the base of another wrapper, MMEngine also
    leaves out the scaler for shards, which finds an overflow in any process.

    Examples:
        >>> runner_type = 'FlexibleRunner'
        >>> strategy = dict(type='ResumableFSDPStrategy')
    """

    def optim_state_dict(self) -> dict[str, Any]:
        """The optimizer's whole state, in the first process if so set.

        PyTorch (2.14) gathers each of a parameter's tensors into the same
        buffer and, on a CPU, returns that buffer: momentum and variance would
        be the same tensor. So there they are gathered one by one.

        Returns:
            dict: The state, as a plain optimizer's.
        """
        local = to_group_state(self.optim_wrapper.state_dict())
        names = sorted({
            name for names in all_gather_object(sorted({
                name for of in local['state'].values() for name in of}))
            for name in names})
        if next(self.model.parameters()).device.type != 'cpu' or \
                len(names) < 2:
            return self._gathered(local)
        whole: dict[str, Any] = {}
        for name in names:
            only = dict(local, state={
                key: {name: of[name]}
                for key, of in local['state'].items() if name in of})
            part = self._gathered(only)
            states = whole.setdefault('state', {})
            whole.update({key: value for key, value in part.items()
                          if key != 'state'})
            for key, of in part.get('state', {}).items():
                states.setdefault(key, {}).update(of)
        return whole

    def load_optim_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Gives the wrapper its shards of an optimizer's whole state.

        Args:
            state_dict (dict): What :meth:`optim_state_dict` returned.
        """
        local = FullyShardedDataParallel.optim_state_dict_to_load(
            model=self.model, optim=self.optim_wrapper.optimizer,
            optim_state_dict=state_dict)
        self.optim_wrapper.load_state_dict(from_group_state(local))

    def _gathered(self, local: dict[str, Any]) -> dict[str, Any]:
        return FullyShardedDataParallel.optim_state_dict(
            self.model, self.optim_wrapper.optimizer, local)

    def build_optim_wrapper(self, optim_wrapper: Any,
                            model: nn.Module | None = None) -> Any:
        """Builds the wrapper, with ``use_fsdp`` in a base that scales losses.

        Args:
            optim_wrapper (Optimizer | OptimWrapper | dict[str, Any]): See
                :meth:`BaseStrategy.build_optim_wrapper`.
            model (nn.Module, optional): The wrapped model.
        """
        if isinstance(optim_wrapper, dict) and optim_wrapper.get('base'):
            kind = optim_wrapper['base'].get('type')
            kind = OPTIM_WRAPPERS.get(kind) if isinstance(kind, str) else kind
            if isinstance(kind, type) and issubclass(kind, AmpOptimWrapper):
                optim_wrapper['base'].setdefault('use_fsdp', True)
        return super().build_optim_wrapper(optim_wrapper, model)
