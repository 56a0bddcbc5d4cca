"""What the studies of wrong labels on digits have in common."""

CONFIG = ('../configs/classification/digits/'
          'resnet18-c16-s2_b64_digits-noise40-8x8.py')


def wrong_labels(percent):
    """The same labels are wrong in all trainings."""
    return {'train_dataloader.dataset.ratio': percent / 100}


def lasting(epochs):
    """A training of so many epochs."""
    return {'train_cfg.max_epochs': epochs, 'param_scheduler.T_max': epochs}


def wrapper(weight_decay, lr=0.1, batch_size=64, **options):
    """A setting: of SGD, or of the wrapper whose options are given."""
    return dict(
        train_dataloader=dict(batch_size=batch_size),
        optim_wrapper=dict(
            optimizer=dict(lr=lr, weight_decay=weight_decay), **options))


def methods(weight_decay):
    """A setting of each method, with the rho of methods_digits_tuning.py."""
    searched = dict(rho=0.3)
    return {
        name: wrapper(weight_decay, type=name.split(',')[0], **options)
        for name, options in {
            'SAM': searched,
            'AUSAM, low (0.5)': dict(
                searched, alpha=0.5, ramp_epochs=6, favor='low'),
            'GSAM': searched,
            'FSAM': searched,
            'VSAM': searched,
            'ESAM': dict(rho=0.1),
            'KSAM': dict(rho=0.1),
            'SSSAM': searched,
            'SAMPa': searched,
            'LookSAM': searched,
            'AESAM': searched,
            'AELookSAM': dict(rho=0.1),
            # One step of momentum: its rho is another measure.
            'MSAM': dict(rho=3.),
            # The control: a random direction.
            'RandomSAM': searched,
        }.items()}
