"""What cannot work is refused at once, in a sentence with the remedy."""

import copy
from contextlib import nullcontext

import pytest
import torch
from mmengine.logging import MessageHub
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.registry import OPTIM_WRAPPERS
from torch import nn

from ..toy import ToyModel, batch, build, difference, wrap


@pytest.mark.parametrize(
    'kind', ['DeepSpeedOptimWrapper', 'AUSAM', 'NoSuchWrapper', ToyModel])
def test_a_wrapper_that_cannot_be_the_base_is_refused(kind):
    with pytest.raises(TypeError, match='cannot be the base of SAM: set a'):
        wrap(build(), type='SAM', base=dict(type=kind))


def test_apex_levels_with_copies_of_the_weights_are_refused(monkeypatch):
    monkeypatch.setattr(
        'mmengine.optim.optimizer.apex_optimizer_wrapper.apex_amp', object())
    base = dict(type='ApexOptimWrapper', opt_level='O2')
    with pytest.raises(ValueError, match="set opt_level='O1'"):
        wrap(build(), type='SAM', base=base)


def test_several_optimizers_are_refused():
    model = build()
    wrappers = OptimWrapperDict(
        a=OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1)))
    with pytest.raises(TypeError, match='OptimWrapperDict.*one optimizer'):
        OPTIM_WRAPPERS.build(
            dict(type='AUSAM'), default_args=dict(optimizer=wrappers))
    with pytest.raises(TypeError, match='OptimWrapperDict'):
        wrap(model, type='AUSAM', base=wrappers)


def test_an_update_without_optim_context_is_refused():
    """As DeepSpeed's, ColossalAI's and OptimWrapperDict's train steps do."""
    model = build()
    wrapper = OptimWrapperDict(a=wrap(model, type='AUSAM'))['a']
    loss = model(**batch(), mode='loss')['loss']
    with pytest.raises(RuntimeError, match='optim_context.*DeepSpeed.*Dict'):
        wrapper.update_params(loss)


def test_ausam_refuses_a_model_without_loss_modules_and_sam_trains_it():

    class Functional(ToyModel):

        def __init__(self):
            super().__init__()
            del self.loss_module

        def forward(self, inputs, data_samples=None, mode='tensor'):
            return dict(loss=self.net(inputs).pow(2).mean())

    model = Functional().double()
    with pytest.raises(ValueError, match='Functional has no loss modules'):
        model.train_step(batch(), wrap(model, type='AUSAM'))
    model.train_step(batch(), wrap(model, type='SAM'))


def test_a_loss_that_is_not_called_as_a_module_is_refused():

    class ByMethod(ToyModel):

        def forward(self, inputs, data_samples=None, mode='tensor'):
            pred = self.net(inputs)
            return dict(loss=self.loss_module.forward(pred, pred * 0))

    model = ByMethod().double()
    with pytest.raises(ValueError, match='None of the loss modules'):
        model.train_step(batch(), wrap(model, type='AUSAM'))


def test_samples_without_identity_are_refused_unless_scores_are_uniform():
    model = build()
    data = batch()
    for sample in data['data_samples']:
        del sample.sample_idx
    with pytest.raises(ValueError, match='carry none of .*sample_idx'):
        model.train_step(data, wrap(model, type='AUSAM'))
    wrapper = wrap(model, type='AUSAM', scores='uniform', warmup_iters=1)
    for _ in range(2):
        model.train_step(data, wrapper)
    assert wrapper.samples_backpropagated == 2 * (16 + 8)


def test_uniform_scores_without_epochs_ask_for_iterations():
    MessageHub.get_instance('no Runner')  # not that of another test's
    model = build()
    with pytest.raises(ValueError, match='set warmup_iters and ramp_iters'):
        model.train_step(batch(), wrap(model, type='AUSAM', scores='uniform'))


def test_a_batch_with_fewer_data_samples_than_inputs_is_refused():
    model = build()
    data = batch()
    data['data_samples'].pop()
    with pytest.raises(ValueError, match=r'\[16\] samples but 15'):
        model.train_step(data, wrap(model, type='AUSAM'))


def test_a_train_step_that_calls_the_model_twice_is_refused():

    class Twice(ToyModel):

        def train_step(self, data, optim_wrapper):
            with optim_wrapper.optim_context(self):
                data = self.data_preprocessor(data, True)
                self(**data, mode='loss')
                losses = self(**data, mode='loss')
            optim_wrapper.update_params(self.parse_losses(losses)[0])

    model = Twice().double()
    with pytest.raises(RuntimeError, match='called 2 times'):
        model.train_step(batch(), wrap(model, type='SAM'))


class OwnStep(ToyModel):
    """Its train_step does something of its own with the losses."""

    def train_step(self, data, optim_wrapper):
        with optim_wrapper.optim_context(self):
            data = self.data_preprocessor(data, True)
            losses = self(**data, mode='loss')
        self.finish(losses, optim_wrapper)

    def finish(self, losses, optim_wrapper):
        optim_wrapper.update_params(self.parse_losses(losses)[0])


TWO_PASSES = [
    dict(type='SAM'), dict(type='AUSAM', warmup_iters=0),
    dict(type='AUSAM', alpha=(0.25, 0.75), warmup_iters=0),
    dict(type='KSAM'), dict(type='SAM', accumulative_counts=2)]
CHANGES = {
    'scaled': lambda model, loss: 10 * loss,
    'slightly scaled': lambda model, loss: 1.01 * loss,
    'regularized': lambda model, loss: loss + sum(
        p.pow(2).sum() for p in model.parameters()),
    'shifted': lambda model, loss: loss + 1,
    'NaN': lambda model, loss: loss * float('nan'),
}


@pytest.mark.parametrize('options', TWO_PASSES, ids=str)
@pytest.mark.parametrize('change', CHANGES)
def test_a_loss_that_train_step_changes_is_refused(options, change):
    """The second pass would not see the change."""

    class Changed(OwnStep):

        def finish(self, losses, optim_wrapper):
            loss, _ = self.parse_losses(losses)
            if self.changes:
                loss = CHANGES[change](self, loss)
            optim_wrapper.update_params(loss)

    model = Changed().double()
    wrapper = wrap(model, **options)
    model.changes = False
    for i in range(3):
        model.train_step(batch(i), wrapper)
    model.changes = True  # as from some epoch on
    with pytest.raises(RuntimeError, match=(
            r'train_step gave update_params a loss of .*, but the model '
            r"returned .*: scale losses and add to them in the model's")):
        model.train_step(batch(4), wrapper)


@pytest.mark.parametrize('options', [
    dict(type='MSAM'), dict(type='SSSAM', p=0.)], ids=str)
def test_a_loss_that_train_step_changes_is_trained_in_one_pass(options):

    class Changed(OwnStep):

        def finish(self, losses, optim_wrapper):
            optim_wrapper.update_params(10 * losses['loss'])

    class Inside(ToyModel):

        def forward(self, *args, **kwargs):
            return dict(loss=10 * super().forward(*args, **kwargs)['loss'])

    trained = []
    for kind in (Changed, Inside):
        torch.manual_seed(0)
        trained.append(kind().double())
        wrapper = wrap(trained[-1], **options)
        for i in range(3):
            trained[-1].train_step(batch(i), wrapper)
    assert difference(*trained) == 0


def test_losses_added_up_in_another_order_are_the_same():

    class Many(OwnStep):

        def forward(self, *args, **kwargs):
            loss = super().forward(*args, **kwargs)['loss']
            return {f'loss_{i}': loss / (3 + i) for i in range(9)}

        def finish(self, losses, optim_wrapper):
            optim_wrapper.update_params(
                sum(reversed(losses.values())).reshape(1))

    torch.manual_seed(0)
    model = Many()
    wrapper = wrap(model, type='SAM')
    for i in range(5):
        data = batch(i)
        data['inputs'] = data['inputs'].float()
        for sample in data['data_samples']:
            sample.gt = sample.gt.float() * 1e6
        model.train_step(data, wrapper)
    assert wrapper.num_updates == 5


@pytest.mark.parametrize('returned', [
    lambda loss: loss, lambda loss: [loss], lambda loss: dict(total=loss)],
    ids=['Tensor', 'list', 'dict'])
def test_a_model_that_returns_no_loss_is_refused(returned):

    class Bare(OwnStep):

        def forward(self, *args, **kwargs):
            self.loss = super().forward(*args, **kwargs)['loss']
            return returned(self.loss)

        def finish(self, losses, optim_wrapper):
            optim_wrapper.update_params(self.loss)

    model = Bare().double()
    with pytest.raises(RuntimeError, match=(
            'SAM repeats the forward pass, but the (Tensor|list|dict) that '
            'the model returned has no loss: compute losses in its forward')):
        model.train_step(batch(), wrap(model, type='SAM'))


def torchs(loss, wrapper):
    loss.backward()
    wrapper.optimizer.step()
    wrapper.optimizer.zero_grad()


def wrappers(loss, wrapper):
    wrapper.zero_grad()
    wrapper.backward(loss)
    wrapper.step()


OWN = {
    'torch': torchs,
    'wrapper': wrappers,
    'backward': lambda loss, wrapper: wrapper.backward(loss),
    'step': lambda loss, wrapper: (loss.backward(), wrapper.step()),
    'zero_grad': lambda loss, wrapper: (
        wrapper.zero_grad(), wrapper.update_params(loss)),
    'accumulated': lambda loss, wrapper: (
        loss.backward(), wrapper.optimizer.step()),
}


@pytest.mark.parametrize('options', [*TWO_PASSES, dict(type='MSAM')], ids=str)
@pytest.mark.parametrize('own', OWN)
def test_a_train_step_that_steps_itself_is_refused(options, own):
    """It would train without the second pass, silently."""

    class Alone(OwnStep):

        def finish(self, losses, optim_wrapper):
            OWN[own](losses['loss'], optim_wrapper)

    model = Alone().double()
    wrapper = wrap(model, **options)
    refused = pytest.raises(RuntimeError, match=(
        f'After the first forward pass of {options["type"]} .*: call '
        r'optim_wrapper.update_params\(loss\)'))
    with refused:
        model.train_step(batch(0), wrapper)
        # torch's own optimizer is not asked: what it has done shows.
        assert own in ('torch', 'accumulated')
        model.train_step(batch(1), wrapper)
    assert wrapper.num_updates == 0
    ToyModel.train_step(model, batch(3), wrapper)  # the wrapper still works
    assert wrapper.num_steps == 1


def test_a_train_step_may_give_a_batch_up():
    """Without an update, as where a loss is not finite."""

    class Choosy(OwnStep):

        def finish(self, losses, optim_wrapper):
            if losses['loss'].isfinite():
                super().finish(losses, optim_wrapper)

    model = Choosy().double()
    other = copy.deepcopy(model)
    wrapper, expected = wrap(model, type='SAM'), wrap(other, type='SAM')
    for i in range(4):
        if i == 2:
            bad = batch(9)
            bad['inputs'][0, 0] = float('nan')
            model.train_step(bad, wrapper)
        model.train_step(batch(i), wrapper)
        other.train_step(batch(i), expected)
    assert difference(model, other) == 0
    assert wrapper.num_updates == 4


@pytest.mark.parametrize('inside', [True, False])
def test_a_step_that_an_exception_ended_is_no_unfinished_one(inside):

    class Fails(OwnStep):
        fails = False

        def forward(self, *args, **kwargs):
            if self.fails and inside:
                raise MemoryError
            return super().forward(*args, **kwargs)

        def finish(self, losses, optim_wrapper):
            if self.fails:
                raise MemoryError
            super().finish(losses, optim_wrapper)

    model = Fails().double()
    wrapper = wrap(model, type='SAM')
    for i in range(4):
        model.fails = i == 2
        with pytest.raises(MemoryError) if model.fails else nullcontext():
            model.train_step(batch(i), wrapper)
        if inside:  # as those do that leave out what does not fit into memory
            wrapper.zero_grad()
    assert wrapper.num_updates == 3


def test_a_train_step_without_preprocessor_is_refused():

    class Bare(ToyModel):

        def train_step(self, data, optim_wrapper):
            with optim_wrapper.optim_context(self):
                losses = self(**data, mode='loss')
            optim_wrapper.update_params(self.parse_losses(losses)[0])

    model = Bare().double()
    with pytest.raises(RuntimeError, match='did not call data_preprocessor'):
        model.train_step(batch(), wrap(model, type='AUSAM'))
    model.train_step(batch(), wrap(model, type='SAM'))


def test_a_loss_of_fewer_samples_than_the_batch_is_refused_by_name():
    """Losses of a part of the samples, as MultiTaskHead's."""

    class Masked(ToyModel):

        def forward(self, inputs, data_samples=None, mode='tensor'):
            pred = self.net(inputs)[:5]
            return dict(loss=self.loss_module(pred, pred * 0))

    model = Masked().double()
    with pytest.raises(ValueError, match='loss_module.*SquaredLoss'):
        model.train_step(batch(), wrap(model, type='AUSAM'))


def test_batches_of_tensors_without_data_samples_train(tmp_path):
    """What torch's default collate makes of (image, label) pairs."""

    class Classifier(BaseModel):

        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(6, 3)
            self.criterion = nn.CrossEntropyLoss()

        def forward(self, inputs, labels, mode='tensor'):
            return dict(loss=self.criterion(self.fc(inputs), labels))

    model = Classifier()
    wrapper = wrap(model, type='AUSAM', scores='uniform', warmup_iters=1)
    for _ in range(3):
        model.train_step([torch.rand(8, 6), torch.arange(8) % 3], wrapper)
    assert wrapper.samples_backpropagated == 16 + 2 * 8


def test_a_schedule_without_an_end():
    model = build()
    wrapper = wrap(model, type='SSSAM', schedule='linear')
    with pytest.raises(ValueError, match='initialize_count_status'):
        model.train_step(batch(), wrapper)
