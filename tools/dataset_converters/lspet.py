"""Writes Leeds Sports Pose Extended as a data set in COCO's format.

From the official lspet_dataset.zip (joints.mat and images/, 10,000 images):
the last 1,000 people become the validation part, since there is no official
split; joints that the authors marked as hidden get visibility 0; boxes are
those of the joints with a margin of 20 % of their longer side. Or from a .tar
with images/ and annotations/lsp14_{train,val}.json, whose annotations are
taken as they are. Writes <out>/images/ and
<out>/annotations/lspet_{train,val}.json.
"""

import io
import json
import tarfile
import zipfile
from pathlib import Path, PurePosixPath

import numpy as np
from _writing import annotate, decode, parse_args, whole_folder, write_coco
from rich.progress import track
from scipy.io import loadmat

NUM_VAL = 1000
MARGIN = 0.2  # of the longer side of what the joints span

People = list[tuple[dict, dict]]  # image, annotation


def read_zip(path: Path, images: Path) -> dict[str, People]:
    """Copies the official archive's images and converts its joints."""
    with zipfile.ZipFile(path) as archive:
        names = sorted(name for name in archive.namelist()
                       if name.lower().endswith('.jpg'))
        mats = [name for name in archive.namelist()
                if PurePosixPath(name).name == 'joints.mat']
        if not mats:
            raise SystemExit(f'{path} has no joints.mat: give the official '
                             'lspet_dataset.zip.')
        joints = loadmat(io.BytesIO(archive.read(mats[0])))['joints']
        if joints.shape != (14, 3, len(names)):
            raise SystemExit(
                f'{path} has {len(names)} images and joints of shape '
                f'{joints.shape}, not (14, 3, {len(names)}): it is not whole; '
                'download it again.')
        people = []
        for i, name in enumerate(track(names, 'LSPET')):
            content = archive.read(name)
            height, width = decode(path, name, content).shape[:2]
            name = PurePosixPath(name).name
            (images / name).write_bytes(content)
            seen = joints[:, 2:, i] > 0
            if seen.sum() >= 2:  # else there is no box
                # COCO's 2 is a joint that is seen, 0 one without a place.
                person = np.where(
                    seen, joints[:, :, i] * [1, 1, 0] + [0, 0, 2], 0)
                people.append(annotate(
                    i + 1, name, person, width, height, MARGIN))
    num_val = min(NUM_VAL, len(people) // 2)
    return dict(train=people[:-num_val], val=people[-num_val:])


def read_tar(path: Path, images: Path) -> dict[str, People]:
    """Copies a .tar's images and reads its annotations."""
    splits, found = {}, set()
    with tarfile.open(path) as archive:
        for member in track(archive.getmembers(), 'LSPET'):
            name = PurePosixPath(member.name).name
            if name.lower().endswith('.jpg'):
                content = archive.extractfile(member).read()
                decode(path, name, content)
                (images / name).write_bytes(content)
                found.add(name)
            elif name in ('lsp14_train.json', 'lsp14_val.json'):
                content = json.load(archive.extractfile(member))
                image_of = {image['id']: image for image in content['images']}
                splits[name[6:-5]] = [
                    (image_of[person['image_id']], person)
                    for person in content['annotations']]
    if set(splits) != {'train', 'val'}:
        raise SystemExit(f'{path} has no annotations/lsp14_train.json and '
                         'lsp14_val.json: give such a .tar, or the official '
                         'lspet_dataset.zip.')
    for split in splits.values():
        lost = {image['file_name'] for image, _ in split} - found
        if lost:
            raise SystemExit(f'{path} lacks the image {min(lost)} and '
                             f'{len(lost) - 1} more: it is not whole.')
    return splits


if __name__ == '__main__':
    args = parse_args(__doc__, 'data/lspet', 'the .zip or the .tar')
    read = read_tar if '.tar' in args.source.suffixes else read_zip
    with whole_folder(
            args.out, args.source, 'see docs/datasets.md for where to '
            'download it') as part:
        (part / 'images').mkdir()
        for split, people in read(args.source, part / 'images').items():
            write_coco(part / 'annotations' / f'lspet_{split}.json', people)
