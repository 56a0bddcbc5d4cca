"""Annotations in COCO's format."""

import json
from typing import Any

from pycocotools.coco import COCO as PycocotoolsCOCO  # noqa: N811


class COCO(PycocotoolsCOCO):
    """pycocotools' ``COCO`` with two habits of xtcocotools.

    An annotation without ``iscrowd`` is no crowd, and results may be empty.

    Args:
        annotation_file (str, optional): A JSON file in COCO's format. None
            starts without annotations. Default: None.
    """

    def __init__(self, annotation_file: str | None = None) -> None:
        super().__init__(annotation_file)
        for annotation in self.dataset.get('annotations', []):
            annotation.setdefault('iscrowd', 0)

    def loadRes(self, resFile: str | list[Any]) -> Any:  # noqa: N802, N803
        """Reads results.

        Args:
            resFile (str or list): A JSON file of results, or the results.

        Returns:
            pycocotools.coco.COCO: The results, for images of these
            annotations.
        """
        if isinstance(resFile, str):
            with open(resFile, encoding='utf-8') as file:
                resFile = json.load(file)  # noqa: N806
        if resFile:
            return super().loadRes(resFile)
        empty = COCO()
        empty.dataset = {**self.dataset, 'annotations': []}
        empty.createIndex()
        return empty
