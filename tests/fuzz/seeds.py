"""Small valid files of every kind, to start from."""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from tests.fuzz.mutate import join_parts
from tests.fuzz.readers import PYRAMID_FILES, ZARR_FILES

ROOT = Path(__file__).resolve().parents[2]


def _noise(*shape: int, dtype: Any = np.uint8) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 200, shape).astype(dtype)


def sidecars() -> list[bytes]:
    """Prompts of two planes, one with locked objects and anchors."""
    from napari_espmedsam.inference.request import SegmentRequest
    from napari_espmedsam.studio.plane_record import PlaneRecord
    from napari_espmedsam.studio.record import PromptRecord, setting_names
    from napari_espmedsam.studio.record_json import record_to_json
    from napari_espmedsam.studio.region import Region

    locked = np.zeros((20, 30), np.uint32)
    locked[2:5, 3:9] = 7
    planes = (
        PlaneRecord((1,), "a" * 32, np.array([[0, 1], [-1, 1]], np.int8)),
        PlaneRecord(
            (3,), "b" * 32, np.zeros((2, 2), np.int8), np.array([[9, 0, 5], [4, 1, 1]]), locked
        ),
    )
    request = SegmentRequest(modality="microscopy", planes=(1, 3))
    record = PromptRecord(
        image_shape=(4, 40, 60),
        image_dtype="uint16",
        axes="ZYX",
        checkpoint="espmedsam",
        weights_sha256="c" * 64,
        settings={name: getattr(request, name) for name in setting_names()},
        planes=planes,
        version="0.1.0",
        created="2025-01-01T00:00:00+00:00",
        image_name="cells",
        cell_size=(32.0, 32.5),
        region=Region(0, 0, 20, 30),
    )
    return [json.dumps(record_to_json(record)).encode()]


def run_records() -> list[bytes]:
    """The record of one image."""
    from napari_espmedsam.batch.record import (
        InputPart,
        OutputPart,
        RunRecord,
        TimesPart,
        WeightsPart,
    )

    digest = "0" * 64
    output = OutputPart(format="tiff", name="a_labels.tif", sha256=digest, bytes=3)
    record = RunRecord(
        software="0.1.0",
        state="done",
        input=InputPart(path="a.tif", sha256=digest, bytes=4, axes="YX", shape=[4, 4]),
        weights=WeightsPart(checkpoint="espmedsam", sha256=digest),
        settings={"threshold": 0.5},
        settings_sha256=digest,
        outputs=[output],
        prompts=output,
        times=TimesPart(started="2025-01-01T00:00:00+00:00"),
    )
    return [record.model_dump_json().encode()]


def settings() -> list[bytes]:
    """Settings that differ from the defaults."""
    changed = {"threshold": 0.4, "output": "mask", "diameter": 12.0, "device": "cpu"}
    return [json.dumps({"version": 1, "settings": changed}).encode()]


def slide_plans() -> list[bytes]:
    """A plan and a finished chunk."""
    plan = {"modality": "microscopy", "shape": [64, 64], "scale": "1/1"}
    buffer = io.BytesIO()
    frame = {side: np.zeros((2, 4), np.uint32) for side in "tblr"}
    np.savez_compressed(
        buffer, labels=np.zeros((4, 4), np.uint32), first=np.zeros((1, 2), np.int64), **frame
    )
    return [join_parts(json.dumps(plan).encode(), buffer.getvalue())]


def _tiny_model(name: str) -> tuple[Any, Any]:
    from napari_espmedsam.model.header import CheckpointHeader, InputSpec
    from napari_espmedsam.model.registry import create_model

    model = create_model(name, modalities=("microscopy",))
    header = CheckpointHeader(
        name="tiny",
        architecture=name,
        config=model.config.model_dump(mode="json"),
        modalities=("microscopy",),
        inputs={"microscopy": InputSpec(geometry="tiled", size=64)},
        licence="Apache-2.0",
    )
    return model, header


@cache
def checkpoints() -> list[bytes]:
    """The two test-sized models."""
    from napari_espmedsam.model.checkpoint import save_checkpoint

    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "a.safetensors"
        found = []
        for name in ("esp_medsam_test", "med_fastsam_test"):
            save_checkpoint(path, *_tiny_model(name))
            found.append(path.read_bytes())
        return found


def checkpoint_headers() -> list[bytes]:
    """Their headers."""
    names = ("esp_medsam_test", "med_fastsam_test")
    return [_tiny_model(name)[1].model_dump_json().encode() for name in names]


def checkpoint_tables() -> list[bytes]:
    """The table of tensors of the first."""
    whole = checkpoints()[0]
    return [whole[8 : 8 + int.from_bytes(whole[:8], "little")]]


def authors_files() -> list[bytes]:
    """A few tensors as torch saves them: as a zip archive, and as older versions did."""
    import torch

    state = {"module.mask_query.weight": torch.zeros(2, 3), "b": torch.ones(2).half()}
    found = []
    for options in ({}, {"_use_new_zipfile_serialization": False}):
        buffer = io.BytesIO()
        torch.save({"state_dict": state}, buffer, **options)
        found.append(buffer.getvalue())
    return found


@cache
def tiffs() -> list[bytes]:
    """OME, ImageJ, plain pages, colours, a pyramid in tiles, BigTIFF, compressed."""
    import tifffile

    def write(pixels: np.ndarray, big: bool = False, **options: Any) -> bytes:
        buffer = io.BytesIO()
        tifffile.imwrite(buffer, pixels, bigtiff=big, **options)
        return buffer.getvalue()

    pyramid = io.BytesIO()
    with tifffile.TiffWriter(pyramid, bigtiff=False) as writer:
        tiles: dict[str, Any] = {"tile": (16, 16), "photometric": "rgb"}
        writer.write(_noise(40, 48, 3), subifds=1, metadata={"axes": "YXS"}, **tiles)
        writer.write(_noise(20, 24, 3), subfiletype=1, **tiles)
    ome = {"axes": "CYX", "PhysicalSizeX": 0.5, "PhysicalSizeXUnit": "µm"}
    return [
        write(_noise(2, 20, 24, dtype=np.uint16), ome=True, metadata=ome),
        write(_noise(3, 20, 24), imagej=True, metadata={"axes": "ZYX", "unit": "um"}),
        write(_noise(20, 24), compression="zlib", predictor=True),
        write(_noise(2, 20, 24, 3), big=True, photometric="rgb"),
        write(_noise(20, 24).astype(np.float32)),
        pyramid.getvalue(),
    ]


def tiff_metadata() -> list[bytes]:
    """Descriptions as OME, ImageJ and Aperio write them, and our own provenance in ImageJ's."""
    ome = (
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0">'
        '<Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint8" SizeX="20" SizeY="20" '
        'SizeC="1" SizeZ="2" SizeT="1" PhysicalSizeX="0.5" PhysicalSizeXUnit="um" '
        'TimeIncrement="2"><Channel ID="Channel:0" Name="a"/><TiffData/></Pixels></Image></OME>'
    )
    imagej = "ImageJ=1.11a\nimages=2\nslices=2\nunit=um\nspacing=0.5\nfinterval=2\nchannels=1\n"
    aperio = "Aperio Image Library v12\n20x20 (16x16) JPEG/RGB Q=70|AppMag = 20|MPP = 0.5"
    return [each.encode() for each in (ome, imagej, aperio, '{"shape": [2, 20, 20]}')]


def _dicom(pixels: np.ndarray, **tags: Any) -> bytes:
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

    header = Dataset()
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header.file_meta.MediaStorageSOPClassUID = CTImageStorage
    header.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    header.SOPClassUID, header.SOPInstanceUID = CTImageStorage, "1.2.3"
    header.BitsAllocated = header.BitsStored = 8 * pixels.itemsize
    header.HighBit = header.BitsStored - 1
    header.SamplesPerPixel, header.PixelRepresentation = 1, 0
    header.PhotometricInterpretation = "MONOCHROME1"
    header.Rows, header.Columns = 12, 10
    for key, value in tags.items():
        setattr(header, key, value)
    header.PixelData = pixels.tobytes()
    buffer = io.BytesIO()
    header.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


@cache
def dicoms() -> list[bytes]:
    """A slice with rescaling and a window, a film, colours."""
    ct: dict[str, Any] = {"RescaleSlope": 2, "RescaleIntercept": -1024, "SliceThickness": 2}
    window: dict[str, Any] = {"WindowCenter": 40, "WindowWidth": 400, "PixelSpacing": [0.5, 0.5]}
    place = {"ImagePositionPatient": [0, 0, 1], "ImageOrientationPatient": [1, 0, 0, 0, 1, 0]}
    colours = {"SamplesPerPixel": 3, "PlanarConfiguration": 0, "PhotometricInterpretation": "RGB"}
    return [
        _dicom(_noise(12, 10, dtype="<u2"), **ct, **window, **place),
        _dicom(_noise(2, 12, 10), NumberOfFrames=2, FrameTime=40, Modality="US"),
        _dicom(_noise(12, 10, 3), **colours),
    ]


@cache
def dicom_folders() -> list[bytes]:
    """Three slices of a series, and two of one with one of another."""
    tags: dict[str, Any] = {
        "ImageOrientationPatient": [1, 0, 0, 0, 1, 0], "PixelSpacing": [0.5, 0.5],
    }  # fmt: skip

    def write_slice(z: int, series: str) -> bytes:
        place = {"ImagePositionPatient": [0, 0, 2 * z], "InstanceNumber": z + 1}
        pixels = _noise(12, 10, dtype="<u2")
        return _dicom(pixels, **tags, **place, SeriesInstanceUID=series)

    return [join_parts(*map(write_slice, range(3), each)) for each in (("1",) * 3, ("1", "1", "2"))]


def pictures() -> list[bytes]:
    """PNG in 8 and 16 bits, with a palette, with alpha; JPEG in grey and colours."""
    from PIL import Image

    def write(picture: Any, kind: str) -> bytes:
        buffer = io.BytesIO()
        picture.save(buffer, kind)
        return buffer.getvalue()

    colours = Image.fromarray(_noise(20, 24, 3))
    grey = Image.fromarray(_noise(20, 24))
    deep = Image.fromarray(_noise(20, 24, dtype=np.uint16))
    pngs = [grey, deep, colours.quantize(16), Image.fromarray(_noise(20, 24, 4)), colours]
    return [
        *(write(each, "PNG") for each in pngs),
        write(grey, "JPEG"),
        write(colours, "JPEG"),
    ]


def _zarr(version: Any, levels: int, names: Sequence[str]) -> bytes:
    """Write an OME-Zarr of so many levels and join the files in it."""
    import zarr

    datasets = []
    with tempfile.TemporaryDirectory() as place:
        group = zarr.open_group(place, mode="w", zarr_format=version)
        for number in range(levels):
            step, shape = 2**number, (20 >> number, 24 >> number)
            level = group.create_array(str(number), shape=shape, chunks=shape, dtype="uint16")
            level[:] = _noise(*shape)
            scale = {"type": "scale", "scale": [0.5 * step, 0.5 * step]}
            datasets.append({"path": str(number), "coordinateTransformations": [scale]})
        axes = [{"name": a, "type": "space", "unit": "micrometer"} for a in "yx"]
        content: dict[str, Any] = {
            "multiscales": [{"axes": axes, "datasets": datasets}],
            "omero": {"channels": [{"label": "a", "window": {"start": 0, "end": 255}}]},
        }
        group.attrs.update({"ome": content} if version == 3 else content)
        files = [Path(place, name) for name in names]
        return join_parts(*(f.read_bytes() if f.is_file() else b"" for f in files))


@cache
def zarr_folders() -> list[bytes]:
    """One level of versions 2 and 3, as the files in it."""
    return [_zarr(version, 1, ZARR_FILES) for version in (2, 3)]


@cache
def zarr_pyramids() -> list[bytes]:
    """Two levels of versions 2 and 3, as the files in them."""
    return [_zarr(version, 2, PYRAMID_FILES) for version in (2, 3)]


def manifests() -> list[bytes]:
    """Two rows, one with quotes."""
    return [
        b'image,mask,modality,split,group\na.png,m.png,xray,train,p\n"b, 1.png",n.png,us,val,\n'
    ]


def recipes() -> list[bytes]:
    """Recipes of the checkout."""
    names = ("microscopy", "six_modalities")
    return [(ROOT / f"training/configs/{name}.toml").read_bytes() for name in names]


def packs() -> list[bytes]:
    """Splits of one image, and its group."""
    return [join_parts(b'{"train": ["a"], "val": [], "test": []}', b"id,patient\na,p1\n")]


def training_runs() -> list[bytes]:
    """The record of a run that was resumed once, and its curve."""
    record = {
        "kind": "FinetuneConfig",
        "config": {"name": "a", "steps": 10},
        "command": "python -m training finetune",
        "commit": "0" * 40,
        "started": "2025-01-01T00:00:00+00:00",
        "processes": 1,
        "versions": {"torch": "2.4"},
        "resumed": [{"commit": "0" * 40, "at": "2025-01-02T00:00:00+00:00"}],
    }
    return [join_parts(json.dumps(record).encode(), b"step,dice\n10,0.5\n20,0.625\n")]
