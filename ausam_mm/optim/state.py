"""What of a two-pass wrapper lies in a checkpoint."""

from mmengine.dist import broadcast_object_list
from mmengine.logging import print_log

from .memory import forget_others

# Under this name the state of a method lies in a checkpoint's 'optimizer'.
STATE = 'ausam_mm'
COUNTERS = ('num_steps', 'num_updates', 'samples_offered', 'samples_loaded',
            'samples_backpropagated', 'samples_scored', 'skipped_climbs',
            'skipped_steps')


class CheckpointState:
    """Saves and loads a wrapper's counters, laws and memories.

    A checkpoint loads with whatever wrapper, and one of whatever wrapper
    loads: what the other does not know is left out, or starts anew.
    """

    def method_state(self) -> dict:
        """What a method keeps between steps: tensors and primitives only."""
        return dict({name: getattr(self, name) for name in COUNTERS},
                    laws=dict(self._laws))

    def load_method_state(self, state: dict) -> None:
        """Takes up what :meth:`method_state` returned, as far as it is there.

        Args:
            state (dict): The state of this or of another method.
        """
        for name in COUNTERS:
            setattr(self, name, state.get(name, 0))
        self._laws.clear()
        self._laws.update(state.get('laws', {}))

    def state_dict(self) -> dict:
        """The base's state with the method's under the key 'ausam_mm'.

        A plain OptimWrapper loads it and leaves the method's part out, but
        for what a method keeps of each parameter: that stays, unused.
        """
        for memory in self.memories:
            memory.put_into(self.optimizer)
        state = self.base.state_dict()
        if self.memories:  # the optimizer's own dicts, which lose it again
            state['state'] = {
                key: dict(of) for key, of in state['state'].items()}
        for memory in self.memories:
            memory.take_from(self.optimizer)
        state[STATE] = self.method_state()
        if self._sharded:
            # Of what is not a parameter's FSDP hands on the groups' settings
            # only: neither this nor the scale of the losses.
            state['param_groups'][0][STATE] = {
                key: state.pop(key)
                for key in set(state) - {'state', 'param_groups'}}
        return state

    def load_state_dict(self, state_dict: dict) -> None:
        """Loads a checkpoint of this or of any other wrapper.

        Args:
            state_dict (dict): What the wrapper that saved it returned. If it
                has no state of a two-pass method, the method starts anew and
                a warning says so.

        Raises:
            ValueError: If it is no optimizer's state at all.
        """
        if not {'state', 'param_groups'} <= set(state_dict):
            raise ValueError(
                'The checkpoint holds no state of an optimizer: resume from '
                'one that MMEngine saved in training, or set `resume=False` '
                'and `load_from` to start with its weights.')
        groups = [dict(group) for group in state_dict['param_groups']]
        state_dict = dict(state_dict, param_groups=groups)
        if STATE in groups[0]:
            # FSDP may read the file in the first process only, and gives
            # the others the shapes of its tensors.
            received = [groups[0].pop(STATE)]
            broadcast_object_list(received)
            state_dict.update(received[0])
        state = state_dict.pop(STATE, None)
        # A plain wrapper's groups have none: those of paramwise_cfg stay.
        rhos = [group['rho'] for group in self.param_groups]
        self.base.load_state_dict(state_dict)
        for memory in self.memories:
            memory.take_from(self.optimizer)
        forget_others(self.optimizer)
        for group, rho in zip(self.param_groups, rhos):
            group.setdefault('rho', rho)
        if state is None:
            print_log(
                'The checkpoint was written without a two-pass method: '
                f'{type(self).__name__} starts with an empty state.',
                logger='current',
                level=30)
        else:
            self.load_method_state(state)
