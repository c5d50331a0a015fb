"""The request says once what forms, command line and library allow."""

from __future__ import annotations

import dataclasses
import inspect
import subprocess
import sys
from typing import Any

import pytest

from napari_espmedsam.errors import InputError
from napari_espmedsam.inference.options import check_value, describe
from napari_espmedsam.inference.postprocess import PostProcess
from napari_espmedsam.inference.request import SegmentRequest, request_options
from napari_espmedsam.inference.segmenter import Segmenter
from napari_espmedsam.inference.tiling import TileSpec


def test_the_defaults_are_valid() -> None:
    request = SegmentRequest()
    assert request.validate() is request


def test_every_field_is_described() -> None:
    options = request_options()
    assert [o.name for o in options] == [f.name for f in dataclasses.fields(SegmentRequest)]
    for option in options:
        assert option.help.endswith(".")
        assert option.label
        assert bool(option.auto) == option.optional
        assert option.default is None or not option.optional
        assert all(flag.startswith("--") for flag in option.flags)
        if option.kind in ("int", "float"):
            assert option.minimum is not None
            assert option.maximum is not None
    flags = [flag for option in options for flag in option.flags]
    assert len(flags) == len(set(flags))


def test_what_both_have_is_declared_the_same() -> None:
    own = {option.name: option for option in request_options()}
    for option in describe(PostProcess):
        assert own[option.name] == option


def test_a_request_fits_the_segmenter() -> None:
    request = SegmentRequest(
        checkpoint="x.safetensors", output="split", tile=128, diameter=12.5, planes=(0, 3)
    ).validate()
    inspect.signature(Segmenter.from_checkpoint).bind(**request.model_options())
    inspect.signature(Segmenter.iter_segment).bind(None, None, **request.segment_options())
    options = request.segment_options()
    assert options["post"] == PostProcess(output="split")
    assert options["tile"] == TileSpec(128, 16)
    assert options["diameter"] == 12.5
    assert options["planes"] == (0, 3)


@pytest.mark.parametrize("option", request_options(), ids=lambda option: option.name)
def test_limits_are_allowed_and_what_lies_beyond_is_not(option: Any) -> None:
    if option.choices:
        for choice in option.choices:
            check_value(option, choice)
        with pytest.raises(InputError, match=f"{option.name} is 'else'"):
            check_value(option, "else")
    if option.minimum is not None:
        for limit, beyond in ((option.minimum, -1), (option.maximum, 1)):
            kind = int if option.kind == "int" else float
            check_value(option, kind(limit))
            with pytest.raises(InputError, match=rf"{option.name} is .*outside"):
                check_value(option, kind(limit) + beyond)
    if not option.optional:
        with pytest.raises(InputError, match=f"{option.name} is None"):
            check_value(option, None)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"scale": 2.0, "pixel_size": 0.5}, r"scale=2 and pixel_size=0.5 are given"),
        ({"planes": ()}, r"planes is \(\).*at least one"),
        ({"planes": (0, -1)}, r"planes is \(0, -1\)"),
        ({"planes": (0.5,)}, r"planes is \(0.5,\).*tuple of whole numbers"),
        ({"rgb": True, "channel": 1}, r"rgb is True and channel is 1"),
        ({"rgb": 1}, r"rgb is 1. Give True or False, or None for"),
        ({"tile": 100}, r"tile size is 100 px.*multiple of 32"),
        ({"modality": 3}, r"modality is 3. Give a text"),
        ({"checkpoint": None}, r"checkpoint is None"),
        ({"diameter": float("inf")}, r"diameter is inf px, outside 1 to"),
        ({"diameter": 10**400}, r"diameter is far too large: px, outside 1 to"),
        ({"diameter": "12"}, r"diameter is '12'. Give a number"),
    ],
)
def test_wrong_values_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        SegmentRequest(**values).validate()


def test_forms_need_no_torch() -> None:
    """The command line's --help and a closed widget must not wait for torch."""
    code = (
        "import sys\n"
        "from napari_espmedsam.inference import request, image, intensity, geometry, tiling\n"
        "from napari_espmedsam.inference import postprocess, plan, results, scale\n"
        "from napari_espmedsam.model import header\n"
        "request.SegmentRequest().validate().segment_options()\n"
        "assert not {'torch', 'qtpy', 'napari'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
