"""Writes images of ImageNet's size, to time a data loader with.

From any photographs, a folder or a .tar of them: each is cropped to 4:3 around
its center, brought to 500x375 pixels and saved as a JPEG. Smaller photographs
are left out, as enlarged ones are cheaper to decode; where there are too few
they come again. The classes mean nothing: one image after the other gets the
next. Writes the layout that mmpretrain's ImageNet reads:
<out>/{train,val}/<index>.JPEG and <out>/meta/{train,val}.txt.
"""

import tarfile
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path

import cv2
import numpy as np
from _writing import decode, parse_args, whole_folder
from rich.progress import track

WIDTH, HEIGHT = 500, 375
QUALITY = 96  # ours: about 90 kB for a photograph of COCO
SUFFIXES = ('.jpg', '.jpeg', '.png')


def read(source: Path) -> Iterator[tuple[str, bytes]]:
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


def convert(source: Path) -> list[bytes]:
    """The images that are large enough, as JPEGs of the one size."""
    images = []
    for name, content in track(read(source), 'photographs'):
        image = decode(source, name, content, cv2.IMREAD_COLOR)
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
    if not images:
        raise SystemExit(f'{source} has no image of {WIDTH}x{HEIGHT} pixels '
                         'or more: give larger photographs.')
    return images


def main() -> None:
    args = parse_args(
        __doc__, 'data/imagenet_size', 'the folder or the .tar',
        num_train=512, num_val=64, num_classes=10)
    with whole_folder(args.out, args.source,
                      'give a folder or a .tar of photographs') as part:
        images = convert(args.source)
        endless = cycle(images)
        (part / 'meta').mkdir()
        for split, count in dict(train=args.num_train,
                                 val=args.num_val).items():
            (part / split).mkdir()
            lines = []
            for i, content in enumerate(islice(endless, count)):
                name = f'{i:06d}.JPEG'
                (part / split / name).write_bytes(content)
                lines.append(f'{name} {i % args.num_classes}\n')
            (part / 'meta' / f'{split}.txt').write_text(''.join(lines))
            print(f'{count:,} images of {min(count, args.num_classes)} '
                  f'classes in {split}')
        print(f'{len(images):,} photographs, '
              f'{np.mean(list(map(len, images))) / 1000:.0f} kB each')


if __name__ == '__main__':
    main()
