"""The paper's comparison of human poses on MPII, by SimCC.

The data: MPII as mmpose has it, in data/mpii. --scale tiny:
tools/dataset_converters/lspet.py SOURCE
"""

import _methods
import _tiny

question = (
    'Poses of MPII by SimCC, ResNet-50 and ResNet-18, 210 epochs: does AUSAM '
    'reach the PCKh of SAM, at 60 % of its cost and at the cost of SGD? By '
    "SGD, which is described as the paper's, and by Adam, mmpose's own "
    'recipe. What of the settings is known is said in '
    'configs/pose/mpii/README.md.')

_folder = '../../configs/pose/mpii/'
config = _folder + 'simcc_res50_sgd_8xb64-210e_mpii-256x256.py'
cases = {
    'ResNet-50, SGD': {},
    'ResNet-50, Adam': dict(
        config=_folder + 'simcc_res50_8xb64-210e_mpii-256x256.py'),
    'ResNet-18, SGD': dict(
        config=_folder + 'simcc_res18_sgd_8xb64-210e_mpii-256x256.py'),
}
settings = _methods.methods(rho=0.01, ramp_epochs=32)
seeds = (0, 1, 2)
num_samples = 22_246

metric = 'PCK'
comparisons = _methods.COMPARISONS
# Other data: 14 joints, and PCK by the torso, between 0 and 1.
scales = _tiny.scale('ResNet-50, SGD', {
    'config': '../../configs/pose/lspet/simcc_res18_b32_lspet-128x96.py',
    'model.backbone.base_channels': 8,
    'model.backbone.stem_channels': 8,
    'model.head.in_channels': 64,
    'model.head.deconv_out_channels': (16, 16, 16),
    'train_dataloader.dataset.indices': 200,
    'val_dataloader.dataset.indices': 100,
    'train_cfg.max_epochs': 4, 'train_cfg.val_interval': 1}, factor=100.)
