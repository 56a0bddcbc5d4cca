"""What the tables of the paper have in common: the methods."""

# Of the authors: rho, and the ramp, 30 epochs of 200.
_ausam = dict(type='AUSAM', rho=0.1, ramp_epochs=30)


def methods(**changed):
    """Settings of an OptimWrapper: the base optimizer, SAM, AUSAM.

    AUSAM (0.6) is that of the paper's headline, 0.5 that at the cost of SGD;
    (0.25, 0.75) is this project's.
    """
    ausam = dict(_ausam, **changed)
    return {
        'SGD': {},
        'SAM': dict(optim_wrapper=dict(type='SAM', rho=ausam['rho'])),
        'AUSAM (0.6)': dict(optim_wrapper=dict(ausam, alpha=0.6)),
        'AUSAM (0.5)': dict(optim_wrapper=dict(ausam, alpha=0.5)),
        'AUSAM (0.25, 0.75)': dict(
            optim_wrapper=dict(ausam, alpha=(0.25, 0.75))),
        # The control: SAM on random samples, at the same cost.
        'uniform (0.5)': dict(optim_wrapper=dict(
            ausam, alpha=0.5, scores='uniform')),
    }


# The published speed, the cost of SGD, and whether scores help.
COMPARISONS = [('AUSAM (0.6)', 'SAM'), ('AUSAM (0.5)', 'SGD'),
               ('AUSAM (0.5)', 'uniform (0.5)')]
