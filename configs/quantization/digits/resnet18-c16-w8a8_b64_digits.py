_base_ = './resnet18-c16-w4a4_b64_digits.py'

model = dict(w_bits=8, a_bits=8)

# For 8 bits LSQ's paper has a hundredth of the float model's.
optim_wrapper = dict(optimizer=dict(lr=0.001))
