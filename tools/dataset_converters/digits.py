"""Writes scikit-learn's handwritten digits as an image folder.

1,797 real images of 8x8 pixels (Alpaydin and Kaynak, 1998; shipped with
scikit-learn): <out>/{train,val}/<digit>/<index>.png, every fifth of a digit
in val.
"""

from collections import Counter
from collections.abc import Iterator

import cv2
from _writing import Image, parse_args, whole_folder, write_images
from sklearn.datasets import load_digits


def images() -> Iterator[Image]:
    """The images as they are written."""
    digits = load_digits()
    seen = Counter()
    for i, (image, label) in enumerate(zip(digits.images, digits.target)):
        split = 'val' if seen[label] % 5 == 4 else 'train'
        seen[label] += 1
        # Values are 0 to 16.
        image = (image * (255 / 16)).astype('uint8')
        yield (split, str(label), f'{i:04d}.png',
               cv2.imencode('.png', image)[1].tobytes())


if __name__ == '__main__':
    with whole_folder(parse_args(__doc__, 'data/digits').out) as part:
        write_images(part, images(), 'digits', 1797)
