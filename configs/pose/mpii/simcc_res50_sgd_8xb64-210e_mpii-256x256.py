_base_ = './simcc_res50_8xb64-210e_mpii-256x256.py'

# SGD is described for AUSAM's paper, its settings are not: to start from.
optim_wrapper = dict(
    optimizer=dict(
        _delete_=True, type='SGD', lr=0.1, momentum=0.9, weight_decay=1e-4))
