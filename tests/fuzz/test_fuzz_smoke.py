"""A few hundred damaged files for each reader; ``python -m tests.fuzz all`` runs many more."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from napari_espmedsam.errors import EspMedSamError
from tests.fuzz.names import NAMES
from tests.fuzz.readers import allowed
from tests.fuzz.strategies import contents
from tests.fuzz.targets import TARGETS

SLOW = {"tiff", "tiff-metadata", "dicom", "dicom-folder", "zarr", "zarr-pyramid"}
SLOW |= {"checkpoint", "checkpoint-table"}


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Leave out what other libraries say about damaged files."""
    logging.disable(logging.CRITICAL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    logging.disable(logging.NOTSET)


def test_every_target_has_a_name() -> None:
    assert tuple(TARGETS) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_seeds_are_understood(name: str) -> None:
    """Damage to a file that is refused anyway would show nothing."""
    understood = 0
    for content in TARGETS[name].seeds():
        try:
            TARGETS[name].run(content)
            understood += 1
        except EspMedSamError:
            continue
    assert understood or name == "authors-file"  # whose weights would take 100 MB


@pytest.mark.parametrize("name", NAMES)
def test_damaged_files_are_refused_in_words(name: str) -> None:
    run = allowed(TARGETS[name].run)

    @seed(0)
    @settings(
        max_examples=40 if name in SLOW else 200,
        database=None,
        deadline=10_000,
        suppress_health_check=list(HealthCheck),
    )
    @given(contents(TARGETS[name]))
    def check(data: bytes) -> None:
        run(data)

    check()


def test_an_error_of_another_kind_is_a_find() -> None:
    @given(st.binary())
    def check(data: bytes) -> None:
        allowed(lambda _: int("x"))(data)

    with pytest.raises(ValueError, match="invalid literal"):
        check()
