"""Selection in the step, and by the data loader.

The data: tools/dataset_converters/cifar.py SOURCE --num-train 2000 \
    --out data/cifar10_2000
"""

question = (
    'Does AUSAM train as well where the loader selects, before a sample is '
    'loaded, and does prefetching change that?')

config = '../configs/classification/cifar10/resnet18-c16_b128_cifar10-2000.py'

options = {
    'model.backbone.base_channels': 8,
    'model.backbone.stem_channels': 8,
    'model.head.in_channels': 64,
    'optim_wrapper.type': 'AUSAM',
    'optim_wrapper.alpha': 0.5,
}

_loader = dict(batch_sampler=dict(type='AUSAMBatchSampler'))
settings = {
    'the step': {},
    'the loader': dict(train_dataloader=_loader),
    **{f'the loader, {batches} batches ahead': dict(train_dataloader=dict(
        _loader, num_workers=1, persistent_workers=True,
        prefetch_factor=batches)) for batches in (2, 8)},
}
seeds = (0, 1)

metric = 'accuracy/top1'
comparisons = [('the loader', 'the step')]
