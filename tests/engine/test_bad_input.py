"""What cannot work is refused at once, in a sentence with the remedy."""

import pytest
import torch
from mmengine.logging import MessageHub
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.registry import OPTIM_WRAPPERS
from torch import nn

from ..toy import ToyModel, batch, build, wrap


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
