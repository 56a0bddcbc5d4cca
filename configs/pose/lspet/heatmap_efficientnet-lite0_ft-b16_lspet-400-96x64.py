_base_ = './heatmap_efficientnet-lite0_ft-b16_lspet-96x64.py'

# The first 400 people.
train_dataloader = dict(dataset=dict(indices=400))
