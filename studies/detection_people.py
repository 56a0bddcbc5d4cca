question = 'Does AUSAM train a detector like SAM, at the price of SGD?'
config = ('../configs/detection/coco_people/'
          'fcos_r18-c16_b8_coco-people-160.py')
settings = {
    'SGD': {},
    'SAM': dict(config='../configs/detection/coco_people/'
                'fcos_r18-c16_sam_b8_coco-people-160.py'),
    'AUSAM (0.5)': dict(config='../configs/detection/coco_people/'
                        'fcos_r18-c16_ausam_b8_coco-people-160.py'),
    'uniform (0.5)': dict(
        config='../configs/detection/coco_people/'
        'fcos_r18-c16_ausam_b8_coco-people-160.py',
        optim_wrapper=dict(scores='uniform')),
}
baseline = 'SGD'
seeds = (0, 1)
metric = 'coco/bbox_mAP_50'
factor = 100
comparisons = [('AUSAM (0.5)', 'SGD'), ('SAM', 'SGD')]
reading = (
    'Two seeds from scratch on so few images tell nothing of the methods: all '
    'settings stay at a low precision, and the intervals are far wider than '
    'the differences. They show that a detector trains under each of them, at '
    'the cost that was planned. The machine did other work meanwhile: its '
    'seconds compare nothing.')
scales = dict(tiny=dict(seeds=(0, ), options={
    'train_cfg.max_epochs': 2, 'train_cfg.val_interval': 1}))
