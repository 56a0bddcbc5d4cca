"""What the studies of fine-tuning EfficientNet-Lite0 have in common."""

import itertools

# The ramp is the paper's share of the training: 30 epochs of 200.
METHODS = {
    'SAM': dict(type='SAM'),
    'AUSAM (0.5)': dict(type='AUSAM', alpha=0.5, ramp_epochs=1),
    'AUSAM (0.25, 0.75)': dict(
        type='AUSAM', alpha=(0.25, 0.75), ramp_epochs=1),
    'SplitSAM': dict(type='SplitSAM'),
}


def wrapper(lr=1e-3, weight_decay=0.01, optimizer='AdamW', batch_size=32,
            **options):
    """A setting: of AdamW, or of the wrapper whose options are given."""
    momentum = dict(momentum=0.9) if optimizer == 'SGD' else {}
    return dict(
        train_dataloader=dict(batch_size=batch_size),
        optim_wrapper=dict(
            optimizer=dict(_delete_=True, type=optimizer, lr=lr,
                           weight_decay=weight_decay, **momentum), **options))


def search():
    """What is searched: AdamW and SGD first, then each method's rho."""
    return {
        **{f'AdamW lr={lr:g} wd={decay:g}': wrapper(lr, decay)
           for lr, decay in itertools.product(
               (3e-4, 1e-3, 3e-3), (0.01, 0.1, 0.5))},
        **{f'AdamW lr={lr:g} wd=0.01 batch={size}': wrapper(
            lr, batch_size=size) for lr, size in itertools.product(
                (1e-3, 3e-3), (16, 64))},
        **{f'SGD lr={lr:g} wd={decay:g}': wrapper(lr, decay, 'SGD')
           for lr, decay in itertools.product(
               (3e-3, 1e-2, 3e-2, 0.1), (1e-4, 1e-3))},
        **{f'{name} rho={rho}': wrapper(rho=rho, **method)
           for (name, method), rho in itertools.product(
               METHODS.items(), (0.002, 0.005, 0.015, 0.05))},
        **{f'{name} rho=0.005 batch=16': wrapper(
            batch_size=16, rho=0.005, **method)
           for name, method in METHODS.items()},
    }


def compared(base, **rho):
    """What is compared: AdamW with ``base``, methods with the rho of each.

    The methods have the learning rate and the weight decay of ``base``, and
    the batch of the config.
    """
    base_of_methods = dict(base, batch_size=32)
    methods = {
        name: wrapper(rho=rho[method['type']], **base_of_methods, **method)
        for name, method in METHODS.items()}
    return {
        'AdamW, tuned': wrapper(**base),
        **methods,
        # The controls: are the scores good for anything?
        **{name.replace('AUSAM', 'uniform'): wrapper(
            rho=rho['AUSAM'], scores='uniform', **base_of_methods, **method)
           for name, method in METHODS.items() if name.startswith('AUSAM')},
        # What SAM costs.
        'AdamW, tuned, twice as long': {
            **wrapper(**base), 'train_cfg.max_epochs': 10,
            'param_scheduler.T_max': 10},
    }


COMPARISONS = [
    ('SAM', 'AdamW, tuned'), ('SAM', 'AdamW, tuned, twice as long'),
    ('AUSAM (0.25, 0.75)', 'AdamW, tuned'),
    ('AUSAM (0.25, 0.75)', 'uniform (0.25, 0.75)'),
    ('SplitSAM', 'AdamW, tuned'),
]
