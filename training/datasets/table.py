"""The published sets by name: how their archives unpack, and what file names tell of groups."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable
from pathlib import Path

from training.datasets.layout import Dataset, Part

#: First frame of each of the 29 video sequences of CVC-ClinicDB; the frames are 1 to 612.
_CLINIC_SEQUENCES = (
    *(1, 26, 51, 68, 79, 104, 127, 152, 178, 200, 206, 228, 253, 278, 298),
    *(318, 343, 364, 384, 409, 429, 448, 467, 479, 504, 529, 547, 572, 592),
)
#: CVC-ColonDB comes from 15 sequences whose frame numbers are not published.
_COLON_BLOCK = 25


def _named(pattern: str) -> Callable[[Path], str]:
    """Group: the last part of the path that fits the pattern."""

    def group(path: Path) -> str:
        found = [match.group(0) for match in re.finditer(pattern, path.as_posix())]
        return found[-1] if found else ""

    return group


def _clinic_sequence(path: Path) -> str:
    return f"sequence {bisect_right(_CLINIC_SEQUENCES, int(path.stem)):02d}"


def _colon_block(path: Path) -> str:
    first = (int(path.stem) - 1) // _COLON_BLOCK * _COLON_BLOCK + 1
    return f"frames {first}-{first + _COLON_BLOCK - 1}"


def _isic(images: str, masks: str, split: str) -> Part:
    return Part(
        f"ISIC2018_Task1-2_{images}_Input/{{id}}.jpg",
        (f"ISIC2018_Task1_{masks}_GroundTruth/{{id}}_segmentation.png",),
        split,
    )


def _stare(observer: str) -> tuple[Part, ...]:
    return (Part("stare-images/{id}.ppm*", (f"labels-{observer}/{{id}}.{observer}.ppm*",)),)


def _drive(folder: str, split: str) -> Part:
    return Part(
        f"{folder}/images/{{number}}_{folder}.tif",
        (f"{folder}/1st_manual/{{number}}_manual1.gif",),
        split,
    )


DATASETS: dict[str, Dataset] = {
    "isic2018": Dataset(
        "ISIC-2018 task 1",
        "dermoscopy",
        3694,
        (
            _isic("Training", "Training", "train"),
            _isic("Validation", "Validation", "val"),
            _isic("Test", "Test", "test"),
        ),
    ),
    "ph2": Dataset(
        "PH2",
        "dermoscopy",
        200,
        (Part("{id}/{id}_Dermoscopic_Image/{id}.bmp", ("{id}/{id}_lesion/{id}_lesion.bmp",)),),
    ),
    "pcxa": Dataset(
        "PCXA (Montgomery and Shenzhen)",
        "xray",
        704,
        (
            Part(
                "CXR_png/MCUCXR_{id}.png",
                (
                    "ManualMask/leftMask/MCUCXR_{id}.png",
                    "ManualMask/rightMask/MCUCXR_{id}.png",
                ),
            ),
            Part("CXR_png/MCUCXR_{id}.png", ("masks/MCUCXR_{id}.png",)),
            Part("CXR_png/CHNCXR_{id}.png", ("mask*/CHNCXR_{id}_mask.png",)),
        ),
        group=_named(r"(MCU|CHN)CXR_\d+"),
    ),
    "nih_cxr": Dataset(
        "NIH chest X-rays with lung masks",
        "xray",
        100,
        (Part("images/NIH_{id}.png", ("masks/NIH_{id}_mask.png",)),),
    ),
    "drive": Dataset("DRIVE", "fundus", 40, (_drive("training", "train"), _drive("test", "test"))),
    "stare": Dataset("STARE (observer AH)", "fundus", 20, _stare("ah")),
    "stare_vk": Dataset("STARE (observer VK)", "fundus", 20, _stare("vk")),
    "cvc_clinicdb": Dataset(
        "CVC-ClinicDB",
        "colonoscopy",
        612,
        (Part("Original/{number}.*", ("Ground Truth/{number}.*",)),),
        group=_clinic_sequence,
    ),
    "cvc_colondb": Dataset(
        "CVC-ColonDB",
        "colonoscopy",
        380,
        (
            Part("images/{number}.png", ("masks/{number}.png",)),
            Part("{number}.bmp", ("p{number}.bmp",)),
        ),
        group=_colon_block,
    ),
    "udiat": Dataset(
        "UDIAT (breast ultrasound dataset B)",
        "ultrasound",
        163,
        (Part("original/{number}.png", ("GT/{number}.png",)),),
    ),
    "busi": Dataset(
        "BUSI",
        "ultrasound",
        780,
        (Part("{kind}/{kind} ({number}).png", ("{kind}/{kind} ({number})_mask*.png",)),),
    ),
    "dsb2018": Dataset(
        "DSB-2018 stage 1",
        "microscopy",
        670,
        (Part("stage1_train/{id}/images/{id}.png", ("stage1_train/{id}/masks/*.png",)),),
        kind="objects",
    ),
    "tnbc": Dataset(
        "TNBC",
        "microscopy",
        50,
        (Part("Slide_{slide}/{id}.png", ("GT_{slide}/{id}.png",)),),
        kind="labels",
        group=_named(r"Slide_\d+"),
    ),
    "monuseg": Dataset(
        "MoNuSeg 2018",
        "microscopy",
        51,
        (
            Part("Tissue Images/{id}.tif", ("Annotations/{id}.xml",), "train"),
            Part("MoNuSegTestData/{id}.tif", ("MoNuSegTestData/{id}.xml",), "test"),
        ),
        kind="polygons",
        group=_named(r"TCGA-\w+-\w+"),
    ),
}
