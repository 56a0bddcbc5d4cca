"""Writes people of COCO with their boxes, on small images, in COCO's format.

From a .tar with images/ and annotations/coco17_{train,val}.json: images are
scaled to a longest side of --size pixels, boxes with them. Crowds stay marked
as such. Writes <out>/images/*.png and
<out>/annotations/people_{train,val}.json.
"""

import json
import tarfile
from pathlib import Path, PurePosixPath

import cv2
from _writing import decode, parse_args, whole_folder
from rich.progress import track

PARTS = dict(train='coco17_train.json', val='coco17_val.json')
REMEDY = ('give the .tar of COCO 2017 people that docs/datasets.md describes')


def read_tar(path: Path, images: Path, size: int) -> dict[str, dict]:
    """Writes a .tar's images smaller; returns its annotations by part."""
    found, shapes = {}, {}
    with tarfile.open(path) as archive:
        for member in track(archive.getmembers(), 'COCO people'):
            name = PurePosixPath(member.name).name
            if name.endswith('.jpg'):
                image = decode(path, name, archive.extractfile(member).read(),
                               cv2.IMREAD_COLOR)
                scale = size / max(image.shape[:2])
                shape = [round(side * scale) for side in image.shape[:2]]
                image = cv2.resize(image, shape[::-1],
                                   interpolation=cv2.INTER_AREA)
                # Without a second loss by JPEG.
                name = f'{PurePosixPath(name).stem}.png'
                cv2.imwrite(str(images / name), image)
                shapes[name] = shape
            elif name in PARTS.values():
                found[name] = json.load(archive.extractfile(member))
    if set(found) != set(PARTS.values()):
        raise SystemExit(f'{path} has no annotations/coco17_train.json and '
                         f'coco17_val.json: {REMEDY}.')
    return {part: resized(found[name], shapes, path)
            for part, name in PARTS.items()}


def resized(coco: dict, shapes: dict[str, list[int]], path: Path) -> dict:
    """The annotations for images of other shapes (height, width)."""
    scales, images = {}, []
    for image in coco['images']:
        name = f'{PurePosixPath(image["file_name"]).stem}.png'
        if name not in shapes:
            raise SystemExit(f'{path} lacks the image {image["file_name"]}: '
                             'it is not whole.')
        height, width = shapes[name]
        scales[image['id']] = width / image['width'], height / image['height']
        images.append(dict(id=image['id'], file_name=name, width=width,
                           height=height))
    people = []
    for person in coco['annotations']:
        x, y = scales[person['image_id']]
        box = [round(side * scale, 2)
               for side, scale in zip(person['bbox'], (x, y, x, y))]
        people.append(dict(
            id=person['id'], image_id=person['image_id'], category_id=1,
            iscrowd=person['iscrowd'], bbox=box,
            area=round(person['area'] * x * y, 2)))
    return dict(info={}, licenses=[], images=images, annotations=people,
                categories=[dict(id=1, name='person',
                                 supercategory='person')])


if __name__ == '__main__':
    args = parse_args(__doc__, 'data/coco_people_boxes', 'the .tar', size=160)
    with whole_folder(args.out, args.source, REMEDY) as part:
        (part / 'images').mkdir()
        (part / 'annotations').mkdir()
        for split, coco in read_tar(
                args.source, part / 'images', args.size).items():
            (part / 'annotations' / f'people_{split}.json').write_text(
                json.dumps(coco))
            print(f'{len(coco["images"])} images with '
                  f'{len(coco["annotations"])} people in {split}')
