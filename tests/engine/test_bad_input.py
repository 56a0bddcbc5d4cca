"""What cannot work says so at once, in a sentence with the remedy."""

import pytest
import torch
from mmengine.logging import MessageHub
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.registry import OPTIM_WRAPPERS
from torch import nn

from ..toy import ToyModel, batch, build, wrap


@pytest.mark.parametrize('options,message', [
    (dict(alpha=0.), r'alpha=0.0 must be a ratio in \(0, 1\]'),
    (dict(alpha=1.5), 'alpha=1.5'),
    (dict(alpha=(0.75, 0.25)), 'ascent <= descent'),
    (dict(alpha='half'), 'for example 0.5 or'),
    (dict(alpha=(0.1, 0.2, 0.3)), 'pair'),
    (dict(alpha=True), 'alpha=True'),
    (dict(rho=-0.1), 'set rho >= 0'),
    (dict(rho='big'), 'set rho >= 0'),
    (dict(rho=float('nan')), 'set rho >= 0'),
    (dict(eta=-1), 'set eta >= 0'),
    (dict(s_min=0.), '0 < s_min <= s_max <= 1'),
    (dict(s_min=0.6, s_max=0.5), '0 < s_min <= s_max <= 1'),
    (dict(s_max=2), '0 < s_min <= s_max <= 1'),
    (dict(warmup_epochs=-1), 'set 0 to do without'),
    (dict(ramp_iters=-5), 'ramp_iters=-5'),
    (dict(seed=-1), 'at least 0'),
    (dict(sampling='poisson'), "set one of 'multinomial', 'systematic'"),
    (dict(weighting='ipw'), "set one of 'none', 'inverse_probability'"),
    (dict(scores='gradient'), "set one of 'adlp', 'uniform', 'loss'"),
    (dict(scores='loss', sampling='systematic'), 'samples nothing'),
    (dict(weighting='inverse_probability'), "sampling='systematic'"),
])
def test_wrong_values(options, message):
    with pytest.raises(ValueError, match=message) as error:
        wrap(build(), type='AUSAM', **options)
    assert '\n' not in str(error.value)


@pytest.mark.parametrize('option,message', [
    ('alhpa', "AUSAM has no option 'alhpa': did you mean 'alpha'?"),
    ('radius', "AUSAM has no option 'radius': it knows accumulative_counts, "),
])
def test_unknown_options(option, message):
    with pytest.raises(TypeError) as error:
        wrap(build(), type='AUSAM', **{option: 1})
    assert message in str(error.value)


@pytest.mark.parametrize(
    'kind', ['DeepSpeedOptimWrapper', 'AUSAM', 'NoSuchWrapper', ToyModel])
def test_what_cannot_be_the_base(kind):
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


def test_an_update_without_context_is_refused():
    """As DeepSpeed's, ColossalAI's and OptimWrapperDict's train steps do."""
    model = build()
    wrapper = OptimWrapperDict(a=wrap(model, type='AUSAM'))['a']
    loss = model(**batch(), mode='loss')['loss']
    with pytest.raises(RuntimeError, match='optim_context.*DeepSpeed.*Dict'):
        wrapper.update_params(loss)


def test_a_model_without_loss_modules_is_refused_but_not_by_sam():

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


def test_samples_without_identity_are_refused_but_not_by_the_control():
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


def test_the_control_without_epochs_asks_for_iterations():
    MessageHub.get_instance('no Runner')  # not that of another test's
    model = build()
    with pytest.raises(ValueError, match='set warmup_iters and ramp_iters'):
        model.train_step(batch(), wrap(model, type='AUSAM', scores='uniform'))


def test_batches_of_unequal_parts_are_refused():
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


def test_a_loss_outside_of_the_batch_is_named():
    """Losses of a part of the samples, as MultiTaskHead's."""

    class Masked(ToyModel):

        def forward(self, inputs, data_samples=None, mode='tensor'):
            pred = self.net(inputs)[:5]
            return dict(loss=self.loss_module(pred, pred * 0))

    model = Masked().double()
    with pytest.raises(ValueError, match='loss_module.*SquaredLoss'):
        model.train_step(batch(), wrap(model, type='AUSAM'))


def test_plain_tuples_of_tensors_train(tmp_path):
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


@pytest.mark.parametrize('options, message', [
    (dict(type='ESAM', beta=0.), 'beta=0.0 is no ratio'),
    (dict(type='ESAM', gamma=1.5), 'gamma=1.5 is no ratio'),
    (dict(type='ESAM', seed=-1), 'at least 0'),
    (dict(type='LookSAM', k=0), 'set k >= 1'),
    (dict(type='LookSAM', k=2.5), 'set k >= 1'),
    (dict(type='LookSAM', alpha=-1.), 'published one is 0.7'),
    (dict(type='SSSAM', p=1.1), 'p=1.1 is no probability'),
    (dict(type='SSSAM', schedule='cosine'), "one of 'constant', 'linear'"),
    (dict(type='AESAM', decay=1.), 'published one is 0.9'),
    (dict(type='AESAM', c_end=float('nan')), 'c_end=nan'),
    (dict(type='AELookSAM', alpha='a'), 'published one is 0.7'),
    (dict(type='KSAM', k=0), 'None for half'),
    (dict(type='VSAM', K=1), 'set K >= 2'),
    (dict(type='VSAM', reuse=2), 'reuse=2'),
    (dict(type='VSAM', rate=0.3, min_rate=0.4), 'min_rate <= rate'),
    (dict(type='FSAM', lmbda=1), 'published one is 0.6'),
    (dict(type='FSAM', sigma=None), 'sigma=None'),
    (dict(type='MSAM', momentum=0.), 'set momentum=0.9'),
    (dict(type='MSAM', rho=-3.), 'set rho >= 0'),
], ids=str)
def test_wrong_values_of_the_other_methods(options, message):
    with pytest.raises(ValueError, match=message) as error:
        wrap(build(), **options)
    assert '\n' not in str(error.value)


@pytest.mark.parametrize('name', [
    'ESAM', 'LookSAM', 'SSSAM', 'AESAM', 'AELookSAM', 'KSAM', 'VSAM', 'MSAM',
    'FSAM'])
def test_an_option_no_rival_has(name):
    with pytest.raises(TypeError, match="did you mean 'rho'"):
        wrap(build(), type=name, rhoo=0.1)


def test_a_schedule_without_an_end():
    model = build()
    wrapper = wrap(model, type='SSSAM', schedule='linear')
    with pytest.raises(ValueError, match='initialize_count_status'):
        model.train_step(batch(), wrapper)
