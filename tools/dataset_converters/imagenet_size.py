"""Writes images of ImageNet's size, to time a data loader with.

From any photographs, a folder or a .tar of them: each is cropped to 4:3 around
its centre, brought to 500x375 pixels and saved as a JPEG. Smaller photographs
are left out, as enlarged ones are cheaper to decode; where there are too few
they come again. The classes mean nothing: one image after the other gets the
next. Writes the layout that mmpretrain's ImageNet reads:
<out>/{train,val}/<index>.JPEG and <out>/meta/{train,val}.txt.
"""

import argparse
import tarfile
from itertools import cycle, islice
from pathlib import Path
from typing import Iterator, List, Tuple

import cv2
import numpy as np
from _writing import is_there, whole_folder
from rich.progress import track

WIDTH, HEIGHT = 500, 375
QUALITY = 96  # ours: about 90 kB for a photograph of COCO
SUFFIXES = ('.jpg', '.jpeg', '.png')


def read(source: Path) -> Iterator[Tuple[str, bytes]]:
    """Names and contents of the images in a folder or a .tar, by name."""
    if source.is_dir():
        for path in sorted(source.rglob('*')):
            if path.suffix.lower() in SUFFIXES:
                yield str(path), path.read_bytes()
        return
    with tarfile.open(source) as archive:
        for member in sorted(archive, key=lambda member: member.name):
            if member.name.lower().endswith(SUFFIXES):
                yield member.name, archive.extractfile(member).read()


def convert(sources: Iterator[Tuple[str, bytes]]) -> List[bytes]:
    """The images that are large enough, as JPEGs of the one size."""
    images = []
    for name, content in track(sources, 'photographs'):
        image = cv2.imdecode(
            np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
        if image is None:
            raise SystemExit(f'{name} is no image: leave it out.')
        scale = min(image.shape[1] / WIDTH, image.shape[0] / HEIGHT)
        if scale < 1:
            continue
        width, height = round(scale * WIDTH), round(scale * HEIGHT)
        x, y = (image.shape[1] - width) // 2, (image.shape[0] - height) // 2
        image = cv2.resize(
            image[y:y + height, x:x + width], (WIDTH, HEIGHT),
            interpolation=cv2.INTER_AREA)
        images.append(cv2.imencode(
            '.jpg', image, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes())
    return images


def write_imagenet_size(source: Path, out: Path, num_train: int, num_val: int,
                        num_classes: int) -> None:
    """Writes the images; a folder that is there is complete, and left alone.

    Args:
        source (Path): The folder or the .tar.
        out (Path): The folder to write.
        num_train (int): Training images.
        num_val (int): Validation images.
        num_classes (int): Classes.

    Raises:
        SystemExit: If no image is large enough, or the archive is damaged.
    """
    if is_there(out):
        return
    if not source.exists():
        raise SystemExit(f'There is no {source}: give a folder or a .tar of '
                         'photographs.')
    try:
        images = convert(read(source))
    except (tarfile.TarError, EOFError) as error:
        raise SystemExit(f'{source} is damaged, or no .tar ({error}): give a '
                         'folder or a .tar of photographs.') from error
    if not images:
        raise SystemExit(f'{source} has no image of {WIDTH}x{HEIGHT} pixels '
                         'or more: give larger photographs.')
    endless = cycle(images)
    with whole_folder(out) as part:
        (part / 'meta').mkdir()
        for split, count in dict(train=num_train, val=num_val).items():
            (part / split).mkdir()
            lines = []
            for i, content in enumerate(islice(endless, count)):
                name = f'{i:06d}.JPEG'
                (part / split / name).write_bytes(content)
                lines.append(f'{name} {i % num_classes}\n')
            (part / 'meta' / f'{split}.txt').write_text(''.join(lines))
            print(f'{count:,} images of {min(count, num_classes)} classes in '
                  f'{split}')
        print(f'{len(images):,} photographs, '
              f'{np.mean(list(map(len, images))) / 1000:.0f} kB each')


if __name__ == '__main__':
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument('source', type=Path, help='the folder or the .tar')
    parser.add_argument('--num-train', type=int, default=512)
    parser.add_argument('--num-val', type=int, default=64)
    parser.add_argument('--num-classes', type=int, default=10)
    parser.add_argument('--out', type=Path,
                        default=Path('data/imagenet_size'))
    args = parser.parse_args()
    write_imagenet_size(args.source, args.out, args.num_train, args.num_val,
                        args.num_classes)
