"""What the studies of segmentation on CamVid have in common."""

CONFIG = '../configs/segmentation/camvid/fpn_r18-c16_b8_camvid-72x96.py'


def wrapper(lr=0.1, **options):
    """A setting: of SGD, or of the wrapper whose options are given."""
    return dict(optim_wrapper=dict(optimizer=dict(lr=lr), **options))
