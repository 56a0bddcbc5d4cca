_base_ = './heatmap_res18-c16_b64_figures-64x64.py'

optim_wrapper = dict(type='AUSAM', rho=0.002, alpha=0.5, ramp_epochs=3)
