"""The report: a page that needs no other file, a table, and what failed."""

from __future__ import annotations

import base64
import csv
import io
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from PIL import Image

from napari_espmedsam.batch.events import JobResult
from napari_espmedsam.batch.job import BatchJob
from napari_espmedsam.batch.thumbnail import SIDE, draw_thumbnail
from napari_espmedsam.inference.image import PlaneStack


class _Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.pictures: list[str] = []
        self.tags: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = dict(attributes)
        self.tags.append(tag)
        self.links += [values["href"] or ""] if "href" in values else []
        self.pictures += [values["src"] or ""] if "src" in values else []

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def result(
    write_image: Callable[..., Path],
    make_job: Callable[..., BatchJob],
    run_job: Callable[[BatchJob], JobResult],
) -> JobResult:
    """Return what came of two images, one with a name that HTML has to escape, and a broken one."""
    write_image("Tag 1/<b>ä & 'x'#.tif"), write_image("z.tif", 1, (2, 300, 400))
    write_image("broken.tif").write_text("<script>alert(1)</script>")
    job = make_job(recursive=True, settings={"diameter": 15.0})
    run_job(job)
    return run_job(job)  # what was finished before has its picture too


def _decode(url: str) -> Image.Image:
    head, data = url.split(",")
    assert head == "data:image/jpeg;base64"
    return Image.open(io.BytesIO(base64.b64decode(data)))


def test_page(result: JobResult, tmp_path: Path) -> None:
    page = _Page(result.reports[0].read_text(encoding="utf-8"))
    assert "2 finished before, 1 failed" in page.text
    assert "<b>ä & 'x'#.tif" in page.text
    assert "diameter = 15.0" in page.text
    assert "is not a TIFF" in page.text
    assert not {"script", "link", "b"} & set(page.tags)
    assert [max(_decode(url).size) for url in page.pictures] == [144, 200]
    targets = [result.reports[0].parent / unquote(link) for link in page.links]
    assert len(targets) == 2
    assert all(target.is_file() for target in targets)


def test_tables(result: JobResult) -> None:
    with result.reports[1].open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["image"], row["state"]) for row in rows] == [
        ("broken.tif", "failed"), ("Tag 1/<b>ä & 'x'#.tif", "skipped"), ("z.tif", "skipped")
    ]  # fmt: skip
    assert rows[2]["shape"] == "ZYX 2 x 300 x 400"
    assert rows[2]["outputs"] == "z_labels.tif"
    with result.reports[2].open(encoding="utf-8", newline="") as file:
        assert [row["image"] for row in csv.DictReader(file)] == ["broken.tif"]


def test_thumbnail_shows_the_plane_with_the_objects() -> None:
    pixels = np.zeros((3, 600, 400), np.uint8)
    pixels[1] = 100
    labels = np.zeros(pixels.shape, np.uint32)
    labels[1, 200:400, 100:300] = 1
    picture = np.asarray(_decode(draw_thumbnail(PlaneStack.from_array(pixels, "ZYX"), labels)))
    assert picture.shape == (200, 134, 3)
    assert max(picture.shape) <= SIDE
    coloured = np.ptp(picture.astype(int), axis=2) > 40
    assert coloured[60:140, 30:105].any()
    assert not coloured[:50].any()
