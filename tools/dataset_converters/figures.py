"""Generates images of articulated figures with COCO keypoint annotations.

Each image shows one figure: limbs of varying thickness and color (the left
ones lighter than the right ones), a head, clutter behind it and now and then
an occluder before it. 14 joints in the order of Leeds Sports Pose. The same
seed gives the same images.
"""

from pathlib import Path

import cv2
import numpy as np
from _writing import (
    JOINTS,
    LIMBS,
    annotate,
    parse_args,
    whole_folder,
    write_coco,
)
from rich.progress import track

MARGIN = 0.06  # of the longer side of what the joints span


def direction(angle: float) -> np.ndarray:
    """The unit vector at an angle from straight down, clockwise."""
    return np.array([-np.sin(angle), np.cos(angle)])


def pose(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """A random pose, about 1 high, around the hips at (0, 0), y downwards."""
    lean = rng.normal(0, 0.25)
    up = -direction(lean)
    across = np.array([-up[1], up[0]])  # to the figure's left, seen from front
    joints = dict(neck=0.36 * up, head_top=0.52 * up)
    for side, sign in (('right', -1), ('left', 1)):
        hip = sign * 0.07 * across
        shoulder = 0.33 * up + sign * 0.11 * across
        thigh = lean * 0.5 - sign * rng.uniform(-0.15, 0.7)
        shin = thigh + sign * rng.uniform(-0.2, 0.7)
        arm = lean - sign * rng.uniform(-0.1, 2.4)
        forearm = arm - sign * rng.uniform(-0.6, 1.4)
        knee = hip + 0.25 * direction(thigh)
        elbow = shoulder + 0.18 * direction(arm)
        joints.update({
            f'{side}_hip': hip,
            f'{side}_knee': knee,
            f'{side}_ankle': knee + 0.24 * direction(shin),
            f'{side}_shoulder': shoulder,
            f'{side}_elbow': elbow,
            f'{side}_wrist': elbow + 0.17 * direction(forearm)
        })
    return joints


def clutter(image: np.ndarray, rng: np.random.Generator) -> None:
    """Draws lines, discs and boxes of muted colors onto the image."""
    height, width = image.shape[:2]
    for _ in range(rng.integers(4, 11)):
        color = rng.integers(40, 200, 3).tolist()
        x, y = rng.integers(0, [width, height]).tolist()
        u, v = rng.integers(0, [width, height]).tolist()
        kind = rng.integers(3)
        if kind == 0:
            cv2.line(image, (x, y), (u, v), color,
                     int(rng.integers(1, 4)), cv2.LINE_AA)
        elif kind == 1:
            cv2.circle(image, (x, y), int(rng.integers(3, 12)), color, -1,
                       cv2.LINE_AA)
        else:
            size = rng.integers(5, 22, 2)
            cv2.rectangle(image, (x, y), (x + int(size[0]), y + int(size[1])),
                          color, -1)


def figure(rng: np.random.Generator, width: int,
           height: int) -> tuple[np.ndarray, np.ndarray]:
    """One image and its joints.

    Returns:
        tuple[ndarray, ndarray]: The image, shape (height, width, 3), uint8,
        BGR; and x, y, visibility (2 seen, 1 hidden, 0 outside) of each joint,
        shape (14, 3).
    """
    image = np.full((height, width, 3), rng.integers(60, 190, 3), np.uint8)
    clutter(image, rng)
    scale = height * rng.uniform(0.62, 0.82)
    center = np.array([width / 2, height * 0.53]) + rng.normal(
        0, 0.03 * height, 2)
    places = {
        name: center + scale * place
        for name, place in pose(rng).items()
    }

    def pixel(name: str) -> tuple[int, int]:
        return tuple(int(round(c)) for c in places[name])

    thick = scale * rng.uniform(0.035, 0.065)
    shirt, skin, trousers = rng.integers(0, 256, (3, 3))
    body = [
        pixel(name) for name in ('right_shoulder', 'left_shoulder',
                                 'left_hip', 'right_hip')
    ]
    for far in (True, False):  # the left limbs lie behind the trunk
        for outer, inner in LIMBS:
            left = outer.startswith('left')
            if left != far:
                continue
            color = trousers if 'knee' in (outer + inner) else skin
            shade = 0.45 if not left else 1.
            tint = (shade * color + (110 if left else 0)).clip(0, 255)
            cv2.line(image, pixel(outer), pixel(inner), tint.tolist(),
                     max(2, round(thick * (0.8 if 'wrist' in outer or 'ankle'
                                           in outer else 1.1))), cv2.LINE_AA)
        if far:
            cv2.fillConvexPoly(image, np.array(body), shirt.tolist(),
                               cv2.LINE_AA)
            cv2.line(image, pixel('neck'), tuple(
                np.mean(body, 0).round().astype(int).tolist()),
                     shirt.tolist(), max(3, round(2 * thick)), cv2.LINE_AA)
    head = (places['neck'] + places['head_top']) / 2
    radius = np.linalg.norm(places['head_top'] - places['neck']) * 0.45
    cv2.circle(image, tuple(head.round().astype(int).tolist()),
               round(radius), skin.tolist(), -1, cv2.LINE_AA)

    visible = np.full(len(JOINTS), 2)
    if rng.random() < 0.4:
        corner = center + rng.normal(0, 0.25, 2) * scale
        size = scale * rng.uniform(0.1, 0.25, 2)
        low, high = corner - size / 2, corner + size / 2
        cv2.rectangle(image, tuple(low.round().astype(int).tolist()),
                      tuple(high.round().astype(int).tolist()),
                      rng.integers(0, 256, 3).tolist(), -1)
        for i, name in enumerate(JOINTS):
            if (places[name] > low).all() and (places[name] < high).all():
                visible[i] = 1
    noise = rng.normal(0, rng.uniform(2, 10), image.shape)
    image = (image + noise).clip(0, 255).astype(np.uint8)
    xy = np.array([places[name] for name in JOINTS])
    outside = ((xy < 0) | (xy > [width - 1, height - 1])).any(1)
    xy[outside], visible[outside] = 0, 0  # as COCO marks what is not labelled
    return image, np.column_stack([xy, visible])


def write_split(folder: Path, split: str, num: int, width: int, height: int,
                rng: np.random.Generator) -> None:
    """Writes one split: images and its COCO file."""
    (folder / split).mkdir()
    people = []
    for i in track(range(1, num + 1), f'figures, {split}'):
        image, joints = figure(rng, width, height)
        name = f'{i:05d}.png'
        cv2.imwrite(str(folder / split / name), image)
        people.append(annotate(i, name, joints, width, height, MARGIN))
    write_coco(folder / 'annotations' / f'figures_{split}.json', people)


if __name__ == '__main__':
    args = parse_args(__doc__, 'data/figures', train=800, val=200, width=96,
                      height=128, seed=0)
    with whole_folder(args.out) as part:
        for offset, split in enumerate(('train', 'val')):
            write_split(part, split, getattr(args, split), args.width,
                        args.height, np.random.default_rng([args.seed,
                                                            offset]))
