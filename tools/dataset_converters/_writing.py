"""What the converters share: they need neither the package nor torch."""

import argparse
import json
import shutil
import tarfile
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
from rich.progress import track

# Of Leeds Sports Pose, in its order.
JOINTS = ('right_ankle', 'right_knee', 'right_hip', 'left_hip', 'left_knee',
          'left_ankle', 'right_wrist', 'right_elbow', 'right_shoulder',
          'left_shoulder', 'left_elbow', 'left_wrist', 'neck', 'head_top')
LIMBS = (('right_ankle', 'right_knee'), ('right_knee', 'right_hip'),
         ('left_ankle', 'left_knee'), ('left_knee', 'left_hip'),
         ('right_wrist', 'right_elbow'), ('right_elbow', 'right_shoulder'),
         ('left_wrist', 'left_elbow'), ('left_elbow', 'left_shoulder'))

Image = tuple[str, str, str, bytes]  # split, class, name, content


def parse_args(doc: str | None, out: str, source: str = '',
               **numbers: int) -> argparse.Namespace:
    """The arguments: a source where there is one, --out and numbers."""
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawTextHelpFormatter)
    if source:
        parser.add_argument('source', type=Path, help=source)
    parser.add_argument('--out', type=Path, default=Path(out),
                        help=f'the folder to write ({out})')
    for name, default in numbers.items():
        parser.add_argument(f'--{name.replace("_", "-")}', type=int,
                            default=default, help=f'({default})')
    return parser.parse_args()


@contextmanager
def whole_folder(out: Path, source: Path | None = None,
                 remedy: str = '') -> Iterator[Path]:
    """A folder to write into, which takes its name when all is written.

    One that is there is complete, and left alone; what an interrupted run has
    left is gone. ``remedy`` is said where the source is absent or damaged.
    """
    if out.exists():
        print(f'{out} is there already.')
        raise SystemExit
    if source and not source.exists():
        raise SystemExit(f'There is no {source}: {remedy}.')
    part = out.with_name(f'{out.name}.part')
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        yield part
    except (zipfile.BadZipFile, tarfile.TarError, EOFError) as error:
        raise SystemExit(f'{source} is damaged, or another kind of file '
                         f'({error}): {remedy}.') from error
    part.rename(out)
    print(f'Written to {out}.')


def decode(source: Path, name: str, content: bytes,
           flags: int = cv2.IMREAD_UNCHANGED) -> np.ndarray:
    """An image, which shows that it is one."""
    image = cv2.imdecode(np.frombuffer(content, np.uint8), flags)
    if image is None:
        raise SystemExit(f'{source} is damaged: {name} is no image; leave it '
                         'out, or download it again.')
    return image


def thin_out(images: list[Image], wanted: int) -> Iterator[Image]:
    """The first training images, equally many of each class; 0 for all."""
    classes = {label for _, label, _, _ in images}
    if wanted and wanted < len(classes):
        raise SystemExit(f'--num-train {wanted} leaves classes without an '
                         f'image: there are {len(classes)}; take a multiple '
                         'of that.')
    seen = Counter()
    for image in images:
        split, label = image[:2]
        seen[split, label] += 1
        if (split == 'val' or not wanted
                or seen[split, label] <= wanted // len(classes)):
            yield image


def write_images(part: Path, images: Iterable[Image], name: str,
                 total: int | None = None) -> dict[str, Counter]:
    """Writes <part>/<split>/<class>/<name>; the number of each class."""
    counts = dict(train=Counter(), val=Counter())
    for split, label, file, content in track(images, name, total):
        path = part / split / label / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        counts[split][label] += 1
    for split, count in counts.items():
        print(f'{sum(count.values()):,} images of {len(count)} classes in '
              f'{split}')
    return counts


def annotate(index: int, name: str, joints: np.ndarray, width: int,
             height: int, margin: float) -> tuple[dict, dict]:
    """One person as COCO's image and annotation.

    ``joints`` are x, y in pixels and COCO's visibility, shape (14, 3);
    ``margin`` is the box's, in sides of what the joints span.
    """
    points = joints[joints[:, 2] > 0, :2]
    low, high = points.min(0), points.max(0)
    margin = margin * (high - low).max()
    low = np.maximum(low - margin, 0)
    high = np.minimum(high + margin, (width, height))
    box = [*low.tolist(), *(high - low).tolist()]
    return (dict(id=index, file_name=name, width=width, height=height),
            dict(id=index, image_id=index, category_id=1, iscrowd=0,
                 keypoints=joints.round(2).flatten().tolist(),
                 num_keypoints=len(points),
                 bbox=[round(value, 2) for value in box],
                 area=round(box[2] * box[3], 2)))


def write_coco(path: Path, people: list[tuple[dict, dict]]) -> None:
    """Writes images and annotations as a COCO file."""
    number = {name: i for i, name in enumerate(JOINTS, 1)}
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(dict(
        info=dict(description=path.stem), licenses=[],
        images=[image for image, _ in people],
        annotations=[person for _, person in people],
        categories=[dict(
            id=1, name='person', supercategory='person', keypoints=JOINTS,
            skeleton=[[number[a], number[b]] for a, b in LIMBS])])))
    print(f'{len(people):,} people in {path.stem}')
