_base_ = '../../configs/classification/digits/resnet18-c16_b64_digits.py'

# Found on PYTHONPATH; it imports ausam_mm itself.
custom_imports = dict(imports=['random_sam'])
optim_wrapper = dict(type='MyRandomSAM', rho=0.1)
