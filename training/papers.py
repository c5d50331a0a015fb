"""What the two papers print, and which of the sets at hand compares with which of theirs."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal

Domain = Literal["source", "unseen"]


@dataclass(frozen=True)
class Column:
    """One set that a paper measured on.

    Attributes
    ----------
    modality, domain : str
        "source": models were trained on the set's training part. "unseen": on none of it.
    dataset : str
        The paper's name for the set.
    n : int
        Test images: of the authors' published split files, or of the whole set where unseen.
    comparable : dict of str to str
        Our names of sets that may stand in this column, and how each relates to the paper's.
        Names count without case and punctuation.
    """

    modality: str
    domain: Domain
    dataset: str
    n: int
    comparable: dict[str, str]

    def relation(self, dataset: str) -> str | None:
        """How one of our sets relates to the paper's; None where it does not belong here."""
        plain = {_plain(name): text for name, text in self.comparable.items()}
        return plain.get(_plain(dataset))


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


@dataclass(frozen=True)
class PaperTable:
    """One table of figures.

    Attributes
    ----------
    title : str
        What it shows, and its number in the paper.
    metrics : tuple of str
        Two fields of :class:`training.scores.Summary`; of these the rows hold the paper's values,
        overlaps in percent, distances in px, at 1024 x 1024.
    columns : tuple of Column
        The sets.
    rows : dict of str to tuple
        For each of the paper's models a pair of values per column.
    """

    title: str
    metrics: tuple[str, str]
    columns: tuple[Column, ...]
    rows: dict[str, tuple[tuple[float, float], ...]]


@dataclass(frozen=True)
class PaperCost:
    """Cost of a model as printed: millions of parameters, billions of MACs, images a second."""

    parameters: float
    gmacs: float | None
    fps: float | None


@dataclass(frozen=True)
class Paper:
    """A paper's figures.

    Attributes
    ----------
    name : str
        Short.
    citation : str
        One line.
    machine : str
        What the images per second were measured on.
    tables : tuple of PaperTable
        Accuracy.
    costs : dict of str to PaperCost
        At 1024 x 1024, by the paper's name of the model.
    """

    name: str
    citation: str
    machine: str
    tables: tuple[PaperTable, ...]
    costs: dict[str, PaperCost] = field(default_factory=dict)


_SAME = "the paper's set"
_PH2 = "the paper's set, longer side at most 512 px"
_ISIC = "images of ISIC-2017, stored squashed to 256 x 256 px"

_SOURCE = (
    Column("dermoscopy", "source", "ISIC-2018", 1000, {"ISIC-2018": _SAME, "isic2017_256": _ISIC}),
    Column("xray", "source", "PCXA", 71, {"PCXA": _SAME, "covid_cxr_lungs": "another set"}),
    Column("fundus", "source", "DRIVE", 20, {"DRIVE": _SAME, "chase_db1": "another set"}),
    Column(
        "colonoscopy",
        "source",
        "CVC-ClinicDB",
        61,
        {"CVC-ClinicDB": _SAME, "kvasir_seg": "another set"},
    ),
    Column("ultrasound", "source", "UDIAT", 17, {"UDIAT": _SAME, "busbra": "another set"}),
    Column("microscopy", "source", "DSB-2018", 67, {"dsb2018": "the authors' own split"}),
)
_UNSEEN = (
    Column("dermoscopy", "unseen", "PH2", 200, {"ph2": _PH2}),
    Column("xray", "unseen", "NIHCXR", 100, {"NIHCXR": _SAME, "NIH-CXR": _SAME}),
    Column("fundus", "unseen", "STARE", 20, {"STARE": _SAME}),
    Column("colonoscopy", "unseen", "CVC-ColonDB", 380, {"CVC-ColonDB": _SAME}),
    Column("ultrasound", "unseen", "BUSI", 780, {"BUSI": _SAME}),
    Column(
        "microscopy",
        "unseen",
        "TNBC",
        50,
        {"TNBC": _SAME, "monuseg2018_test": "another set: 56 tiles of MoNuSeg's 14 test images"},
    ),
)
_FAST = (
    Column("dermoscopy", "source", "ISIC-2018", 1000, _SOURCE[0].comparable),
    Column(
        "microscopy",
        "source",
        "MoNuSeg-2018",
        14,
        {
            "MoNuSeg": _SAME,
            "MoNuSeg-2018": _SAME,
            "monuseg2018_test": "the 14 official test images as 56 tiles",
            "monuseg2018_train": "tiles of official training images kept for the test",
            "monuseg2018_train_semantic": "tiles of official training images kept for the test",
        },
    ),
    Column("dermoscopy", "unseen", "PH2", 200, {"ph2": _PH2}),
    Column("microscopy", "unseen", "TNBC", 50, {"TNBC": _SAME}),
)

ESP_MEDSAM = Paper(
    name="ESP-MedSAM",
    citation="Xu et al., ESP-MedSAM, arXiv:2407.14153, 2024, tables 3 to 5",
    machine="NVIDIA A6000",
    tables=(
        PaperTable(
            "source domains (table 3)",
            ("dice_1024", "hd_1024"),
            _SOURCE,
            {
                "ESP-MedSAM": (
                    (88.52, 92.42),
                    (96.83, 40.68),
                    (82.42, 62.64),
                    (92.93, 56.32),
                    (85.28, 82.32),
                    (92.24, 85.93),
                ),
                "U-Net": (
                    (82.87, 180.90),
                    (93.85, 103.51),
                    (79.13, 68.22),
                    (83.91, 130.96),
                    (69.24, 131.62),
                    (88.16, 130.28),
                ),
            },
        ),
        PaperTable(
            "unseen domains (table 5)",
            ("dice_1024", "hd_1024"),
            _UNSEEN,
            {
                "ESP-MedSAM": (
                    (91.45, 78.13),
                    (92.24, 91.30),
                    (79.68, 83.84),
                    (65.96, 160.13),
                    (61.62, 199.74),
                    (64.21, 248.47),
                ),
                "U-Net": (
                    (87.00, 140.38),
                    (69.98, 223.70),
                    (61.21, 174.97),
                    (32.60, 461.64),
                    (39.17, 336.98),
                    (46.57, 295.62),
                ),
            },
        ),
    ),
    costs={
        "ESP-MedSAM": PaperCost(28.46, 55.88, 12.87),
        "U-Net": PaperCost(13.40, 497.91, 11.07),
    },
)

MED_FASTSAM = Paper(
    name="Med-FastSAM",
    citation="Luo et al., Med-FastSAM, NeurIPS 2024 workshop AIM-FM, tables 1 and 2, section 4.5",
    machine="NVIDIA RTX 8000",
    tables=(
        PaperTable(
            "source and unseen domains (tables 1 and 2)",
            ("iou_1024", "dice_1024"),
            _FAST,
            {
                "Med-FastSAM": ((80.38, 87.84), (69.35, 81.75), (83.48, 90.62), (47.89, 62.26)),
                "U-Net": ((74.66, 83.26), (60.12, 74.53), (77.56, 86.70), (36.19, 50.02)),
            },
        ),
    ),
    costs={"Med-FastSAM": PaperCost(14.48, None, 24.19)},
)

PAPERS = (ESP_MEDSAM, MED_FASTSAM)


def modality_of(dataset: str) -> str:
    """Modality of a set that some column names, else ""."""
    for paper in PAPERS:
        for table in paper.tables:
            for column in table.columns:
                if column.relation(dataset) is not None:
                    return column.modality
    return ""
