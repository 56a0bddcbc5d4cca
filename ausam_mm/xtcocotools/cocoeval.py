"""Average precision and recall of keypoints, by xtcocotools' rules."""

import contextlib
import io
from collections import defaultdict
from typing import Any

import numpy as np
from pycocotools.cocoeval import COCOeval as PycocotoolsCOCOeval

# Where the keypoints of each evaluation type are, and the detections' score
# of it. COCO-WholeBody keeps them in several fields.
_BODY = ('keypoints', )
_PARTS = {
    'foot': ('foot_kpts', ),
    'face': ('face_kpts', ),
    'lefthand': ('lefthand_kpts', ),
    'righthand': ('righthand_kpts', ),
    'wholebody': ('keypoints', 'foot_kpts', 'face_kpts', 'lefthand_kpts',
                  'righthand_kpts'),
}
_FIELDS = {
    'keypoints': (_BODY, 'score'),
    'keypoints_body': (_BODY, 'score'),
    'keypoints_crowd': (_BODY, 'score'),
    **{f'keypoints_{part}': (fields, f'{part}_score')
       for part, fields in _PARTS.items()},
}
# CrowdPose: easy images have a crowd index below 0.2, hard ones from 0.8 on.
_CROWD_LIMITS = (0.2, 0.8)


class COCOeval(PycocotoolsCOCOeval):
    """pycocotools' ``COCOeval`` for every keypoint type of xtcocotools.

    Annotations are translated as they are read: which keypoints count, the
    area, what is ignored. The ids in ``evalImgs`` number the ground truth
    from 1, since pycocotools takes a match with the id 0 for no match.

    Args:
        cocoGt (COCO): The ground truth.
        cocoDt (COCO): The results, from ``cocoGt.loadRes``.
        iouType (str): ``'keypoints'``, ``'keypoints_crowd'``, or a part of
            COCO-WholeBody such as ``'keypoints_foot'``. Default:
            ``'keypoints'``.
        sigmas (array, optional): Falloff of each keypoint, shape (K,). None
            takes COCO's 17. Default: None.
        use_area (bool): False takes 0.53 of the box for an object's area,
            where annotations have none. Default: True.

    Raises:
        ValueError: If ``iouType`` is no type of keypoints.
    """

    # pycocotools declares no types.
    evalImgs: Any  # noqa: N815
    eval: Any
    stats: Any

    def __init__(self, cocoGt: Any, cocoDt: Any,  # noqa: N803
                 iouType: str = 'keypoints',  # noqa: N803
                 sigmas: Any = None, use_area: bool = True) -> None:
        if iouType not in _FIELDS:
            raise ValueError(
                f'iou_type={iouType!r} is no type of keypoints: set one of '
                f'{", ".join(_FIELDS)}, or use pycocotools for boxes and '
                'masks.')
        super().__init__(cocoGt, cocoDt, 'keypoints')
        self.crowd = iouType == 'keypoints_crowd'
        self.fields, self.score_key = _FIELDS[iouType]
        self.use_area = use_area
        if sigmas is not None:
            self.params.kpt_oks_sigmas = np.asarray(sigmas)

    def _prepare(self) -> None:
        """Reads ground truth and results; pycocotools calls it."""
        self._gts, self._dts = defaultdict(list), defaultdict(list)
        self.evalImgs, self.eval = [], {}
        for number, truth in enumerate(self._annotations(self.cocoGt), 1):
            truth.update(id=number, ignore=self._is_ignored(truth))
            if not self.use_area:
                truth['area'] = truth['bbox'][2] * truth['bbox'][3] * 0.53
            self._gts[truth['image_id'], truth['category_id']].append(truth)
        for result in self._annotations(self.cocoDt):
            result['score'] = result.get(self.score_key, result['score'])
            if _visible(result):  # else not a detection of this part
                self._dts[result['image_id'],
                          result['category_id']].append(result)

    def _annotations(self, coco: Any) -> list[dict[str, Any]]:
        """Copies whose keypoints are those of this type."""
        categories = self.params.catIds if self.params.useCats else []
        found = coco.loadAnns(coco.getAnnIds(
            imgIds=self.params.imgIds, catIds=categories))
        return [{**annotation,
                 'keypoints': [number for field in self.fields
                               for number in annotation[field]]}
                for annotation in found]

    def _is_ignored(self, truth: dict[str, Any]) -> bool:
        # CrowdPose counts fully visible joints only.
        joints = truth['num_keypoints'] if self.crowd else _visible(truth)
        return not joints or bool(truth['iscrowd'])

    def summarize(self) -> None:
        """Prints the figures and keeps them in ``stats``.

        Ten of them, as COCO has them. For ``keypoints_crowd`` nine: precision
        and recall without those by area, and the precision in easy, medium
        and hard images.
        """
        super().summarize()
        if not self.crowd:
            return
        images = self.cocoGt.loadImgs(self.params.imgIds)
        easy, hard = _CROWD_LIMITS
        kinds = np.digitize([i['crowdIndex'] for i in images], (easy, hard))
        precisions = []
        for kind, name in enumerate(('easy', 'medium', 'hard')):
            self.params.imgIds = [
                image['id'] for image, its in zip(images, kinds)
                if its == kind]
            with contextlib.redirect_stdout(io.StringIO()):
                self.evaluate()
                self.accumulate()
            precision = self.eval['precision'][:, :, :, 0, :].mean()
            precisions.append(round(float(precision), 4))
            print(f' Average Precision  (AP) of {name} images = '
                  f'{precisions[-1]:0.3f}')
        self.stats = np.array([*self.stats[[0, 1, 2, 5, 6, 7]], *precisions])


def _visible(annotation: dict[str, Any]) -> int:
    """How many keypoints have a positive visibility, or score."""
    scores = np.array(annotation['keypoints'][2::3])
    return int(np.count_nonzero(scores > 0))
