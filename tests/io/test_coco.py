"""COCO: read back by pycocotools."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO

from napari_espmedsam.io.coco import write_coco

# pycocotools has not kept up with numpy.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def test_masks_hold_the_labels(tmp_path: Path, stack: np.ndarray) -> None:
    coco = COCO(str(write_coco(tmp_path / "a.coco.json", stack, "TZYX")))
    images = coco.loadImgs(coco.getImgIds())
    assert [(image["t"], image["z"]) for image in images] == list(np.ndindex(2, 3))
    for image in images:
        labels = np.zeros((image["height"], image["width"]), np.int64)
        for annotation in coco.loadAnns(coco.getAnnIds(imgIds=image["id"])):
            mask = coco.annToMask(annotation).astype(bool)
            labels[mask] += annotation["label"]
            rows, columns = np.nonzero(mask)
            left, top, width, height = annotation["bbox"]
            assert annotation["area"] == mask.sum()
            assert (left, left + width) == (columns.min(), columns.max() + 1)
            assert (top, top + height) == (rows.min(), rows.max() + 1)
        np.testing.assert_array_equal(labels, stack[image["t"], image["z"]])


def test_one_plane(tmp_path: Path, shapes: np.ndarray) -> None:
    coco = COCO(str(write_coco(tmp_path / "cells.coco.json", shapes, "YX", category="nucleus")))
    assert coco.imgs == {1: {"id": 1, "file_name": "cells", "width": 30, "height": 24}}
    assert coco.cats[1]["name"] == "nucleus"
    assert len(coco.anns) == 7
    assert {each["iscrowd"] for each in coco.anns.values()} == {0}


def test_planes_without_background_and_without_objects(tmp_path: Path) -> None:
    labels = np.stack([np.full((5, 6), 8), np.zeros((5, 6), int)])
    coco = COCO(str(write_coco(tmp_path / "a.json", labels, "ZYX")))
    (annotation,) = coco.anns.values()
    assert coco.annToMask(annotation).all()
    assert annotation["segmentation"]["counts"] == [0, 30]


def test_provenance_and_size(tmp_path: Path, shapes: np.ndarray) -> None:
    record = {"input": "cells.tif", "model": "espmedsam"}
    path = write_coco(tmp_path / "a.json", shapes, "YX", spacing={"X": 0.5}, provenance=record)
    content = json.loads(path.read_text(encoding="utf-8"))
    assert content["info"]["napari-espmedsam"] == record
    assert content["info"]["spacing"] == {"X": 0.5}
    assert content["images"][0]["file_name"] == "cells.tif"
