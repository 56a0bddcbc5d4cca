"""Writes Tiny-ImageNet as an image folder.

From the official tiny-imagenet-200.zip
(http://cs231n.stanford.edu/tiny-imagenet-200.zip), or from a .tar of a part of
it, with folders {train,val}/<wnid>/. Writes
<out>/{train,val}/<wnid>/<image>.JPEG; with --num-train only so many training
images, the first by name, equally many of each class.
"""

import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from _writing import (
    Image,
    decode,
    parse_args,
    thin_out,
    whole_folder,
    write_images,
)


def read_zip(path: Path) -> Iterator[Image]:
    """The images of the official archive, whose test images have no labels."""
    archive = zipfile.ZipFile(path)
    labels = [name for name in archive.namelist()
              if name.endswith('val/val_annotations.txt')]
    if not labels:
        raise SystemExit(f'{path} has no val/val_annotations.txt: give the '
                         'official tiny-imagenet-200.zip.')
    lines = archive.read(labels[0]).decode().splitlines()
    label_of = dict(line.split('\t')[:2] for line in lines)
    for member in archive.namelist():
        name = PurePosixPath(member)
        if name.suffix != '.JPEG' or 'test' in name.parts[:-1]:
            continue
        split, label = ('train', name.parts[-3]) if 'train' in name.parts \
            else ('val', label_of[name.name])
        yield split, label, name.name, archive.read(member)


def read_tar(path: Path) -> Iterator[Image]:
    """The images of a .tar with one folder for each class."""
    with tarfile.open(path) as archive:
        for member in archive:
            parts = PurePosixPath(member.name).parts[-3:]
            if member.name.lower().endswith(('.jpeg', '.jpg')) and len(
                    parts) == 3 and parts[0] in ('train', 'val'):
                yield (*parts, archive.extractfile(member).read())


def write_tiny_imagenet(source: Path, out: Path, num_train: int) -> None:
    """Writes the images, so many of them for training; 0 for all.

    No class may be missing in a part.
    """
    read = read_tar if '.tar' in source.suffixes else read_zip

    def checked():
        for image in read(source):
            decode(source, *image[2:])
            yield image

    with whole_folder(
            out, source,
            'download http://cs231n.stanford.edu/tiny-imagenet-200.zip'
    ) as part:
        images = checked()
        total = 110_000 if read is read_zip else None
        if num_train:
            images, total = thin_out(sorted(images), num_train), None
        train, val = write_images(
            part, images, 'Tiny-ImageNet', total).values()
        if not train or set(train) != set(val):
            raise SystemExit(
                f'{source} has {len(train)} classes to train and {len(val)} '
                'to validate: it is not whole; download it again.')


if __name__ == '__main__':
    args = parse_args(__doc__, 'data/tiny_imagenet', 'the .zip or the .tar',
                      num_train=0)
    write_tiny_imagenet(args.source, args.out, args.num_train)
