"""Writes CIFAR-10 or CIFAR-100 as an image folder.

From the official archive (cifar-10-python.tar.gz or cifar-100-python.tar.gz,
https://www.cs.toronto.edu/~kriz/cifar.html), whose checksum is compared, or
from an .npz of JPEG bytes (arrays {train,test}_jpeg, {train,test}_off,
{train,test}_y and classes). Writes <out>/{train,val}/<class>/<index>.png (or
.jpg); with --num-train only so many training images, equally many of each
class.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from _writing import Image, parse_args, thin_out, whole_folder, write_images
from torchvision.datasets import CIFAR10, CIFAR100
from torchvision.datasets.utils import check_md5, extract_archive

SPLITS = dict(train='train', test='val')


def read_npz(path: Path, split: str) -> Iterator[Image]:
    """The images of an .npz of JPEG bytes."""
    with np.load(path) as file:
        try:
            blob, offsets, labels, classes = (
                file[name] for name in (f'{split}_jpeg', f'{split}_off',
                                        f'{split}_y', 'classes'))
        except KeyError as error:
            raise SystemExit(
                f'{path} has no array {error.args[0]}: give the official '
                'archive, or an .npz as the help describes.') from error
    for i, (label, start, end) in enumerate(
            zip(labels, offsets, offsets[1:])):
        yield (SPLITS[split], str(classes[label]), f'{i:05d}.jpg',
               blob[start:end].tobytes())


def read_archive(path: Path, folder: str, split: str) -> Iterator[Image]:
    """The images of an official archive, extracted into ``folder``."""
    kind = {data.filename: data for data in (CIFAR10, CIFAR100)}.get(path.name)
    if kind is None:
        raise SystemExit(
            f'{path.name} is neither {CIFAR10.filename} nor '
            f'{CIFAR100.filename}: give one of them under its own name.')
    if not Path(folder, kind.base_folder).exists():
        if not check_md5(str(path), kind.tgz_md5):
            raise SystemExit(f'{path} is damaged: its MD5 is not '
                             f'{kind.tgz_md5}; download it again.')
        extract_archive(str(path), folder)
    data = kind(folder, train=split == 'train')
    for i, (image, label) in enumerate(zip(data.data, data.targets)):
        yield (SPLITS[split], data.classes[label], f'{i:05d}.png',
               cv2.imencode('.png', image[:, :, ::-1])[1].tobytes())


def write_cifar(source: Path, out: Path, num_train: int) -> None:
    """Writes the images, so many of them for training; 0 for all."""
    with whole_folder(
            out, source, 'download the archive from '
            'https://www.cs.toronto.edu/~kriz/cifar.html') as part, \
            tempfile.TemporaryDirectory() as folder:
        images = [image for split in SPLITS for image in (
            read_npz(source, split) if source.suffix == '.npz' else
            read_archive(source, folder, split))]
        write_images(part, thin_out(images, num_train), 'CIFAR', len(images))


if __name__ == '__main__':
    args = parse_args(__doc__, 'data/cifar10', 'the archive or the .npz',
                      num_train=0)
    write_cifar(args.source, args.out, args.num_train)
