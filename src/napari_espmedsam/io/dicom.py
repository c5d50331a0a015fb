"""DICOM: one file with its frames, or the files of a series, opened without reading all pixels."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from napari_espmedsam.errors import InputError
from napari_espmedsam.io import dicom_header
from napari_espmedsam.io.axes import our_axes
from napari_espmedsam.io.content import DICOM_BYTES, DICOM_SUFFIXES, check_series, is_dicom
from napari_espmedsam.io.lazy_image import LazyImage
from napari_espmedsam.io.levels import finish
from napari_espmedsam.io.watch import FileWatch, lazy

_SLIDE = "1.2.840.10008.5.1.4.1.1.77.1.6"  # VL Whole Slide Microscopy Image Storage
_UNEVEN = 0.02  # share by which the steps between slices may differ
_Header = tuple[FileWatch, Any]


def open_dicom(path: Path) -> LazyImage:
    """Open one DICOM file: a radiograph, a slice, or a film of ultrasound.

    Parameters
    ----------
    path : Path
        A file with DICOM's mark at byte 128.

    Returns
    -------
    LazyImage
        Axes ``YX``, ``ZYX`` or ``TYX``, with S for colours. Bright is dense: MONOCHROME1 is
        inverted. Rescaled values (CT: Hounsfield units) are float32. No data about the patient.

    Raises
    ------
    InputError
        If it is damaged, holds no image, or is a slide.
    """
    watch = FileWatch(path)
    header = _read_header(path)
    if header is None:
        raise InputError(f"{path} is DICOM without an image (no Rows); choose another file.")
    return _open(path, [(watch, header)], 1, [])


def open_dicom_series(
    path: Path, files: Iterable[Path] | None = None, series: int = 0
) -> LazyImage:
    """Open the files of one series as a stack.

    Parameters
    ----------
    path : Path
        A folder; files in folders below it are not looked at.
    files : iterable of Path, optional
        The files instead of all those in the folder.
    series : int
        Which of the series in the folder, in the order of their numbers; counted from 0.

    Returns
    -------
    LazyImage
        As :func:`open_dicom`; slices in the order of their places in the body, or of their
        numbers. Files that cannot be used and uneven steps are in `warnings`.

    Raises
    ------
    InputError
        If there is no image, or no series of that number.
    """
    notes: list[str] = []
    headers = _headers(path, files, notes)
    with _header_errors(path):
        found = _by_series(headers)
    if not found:
        raise InputError(
            f"{path} holds no DICOM image that can be read; name another folder. {' '.join(notes)}"
        )
    check_series(path, series, len(found), "series")
    return _open(path, found[series], len(found), notes)


def _read_header(path: Path) -> Any:
    """Return the header of an image, or None for DICOM of another kind."""
    import pydicom

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            header = pydicom.dcmread(path, stop_before_pixels=True)
            is_image = bool(header.get("Rows")) and bool(header.get("Columns"))
            kind = header.get("SOPClassUID")
    except Exception as error:
        raise InputError(
            f"{path} is DICOM that is cut short or damaged "
            f"({str(error).strip() or type(error).__name__}); export it again."
        ) from error
    if kind == _SLIDE:
        raise InputError(
            f"{path} is a slide in DICOM, whose tiles cannot be put together here; convert it to "
            "OME-TIFF."
        )
    return header if is_image else None


def _headers(path: Path, files: Iterable[Path] | None, notes: list[str]) -> list[_Header]:
    chosen = sorted(path.iterdir()) if files is None else [Path(each) for each in files]
    headers = []
    for each in chosen:
        try:
            if files is None and (each.name.startswith(".") or not each.is_file()):
                continue
            with each.open("rb") as file:
                is_ours = is_dicom(file.read(DICOM_BYTES))
            if not is_ours:
                if files is not None or each.suffix.lower() in DICOM_SUFFIXES:
                    notes.append(f"{each} is not DICOM and is left out.")
                continue
            watch = FileWatch(each)  # before the header, which is to be of the same file
            header = _read_header(each)
            if header is not None:
                headers.append((watch, header))
            elif each.name.upper() != "DICOMDIR":
                notes.append(f"{each} is DICOM without an image and is left out.")
        except (OSError, InputError) as error:
            notes.append(f"A file is left out. {error}")
    return headers


def _by_series(headers: Sequence[_Header]) -> list[list[_Header]]:
    """Group files that can be one stack: the same series, size and colours."""
    groups: dict[tuple[Any, ...], list[_Header]] = {}
    for each in headers:
        header = each[1]
        key = (
            int(header.get("SeriesNumber") or 0),
            str(header.get("SeriesInstanceUID", "")),
            int(header.Rows),
            int(header.Columns),
            str(header.get("PhotometricInterpretation", "")),
        )
        groups.setdefault(key, []).append(each)
    return [groups[key] for key in sorted(groups)]


@contextmanager
def _header_errors(path: Path) -> Iterator[None]:
    """Say in a sentence that a header holds what makes no sense: numbers that are none, say."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"{path} has a DICOM header that cannot be used "
            f"({str(error).strip() or type(error).__name__}); export it again."
        ) from error


def _open(path: Path, files: Sequence[_Header], n_series: int, notes: list[str]) -> LazyImage:
    from napari_espmedsam.io.dicom_frames import Frame, FrameStack

    with _header_errors(path):
        ordered, depth = _in_order(path, files, notes)
        first = ordered[0][1]
        frames = [
            Frame(watch, header, number)
            for watch, header in ordered
            for number in range(_frame_count(watch, header))
        ]
        stack = FrameStack(frames)
        axis = "Z" if len(ordered) > 1 else dicom_header.frame_axis(first)
        letters = axis + ("YXS" if len(stack.shape) == 4 else "YX")
        array, axes = our_axes(path, lazy(stack, FileWatch(path), letters), letters)
        sizes = dicom_header.spacing(first)
        if len(ordered) > 1:  # the thickness of a slice is not the step to the next
            sizes = {a: v for a, v in sizes.items() if a in "YX"} | depth
        window = None if "S" in axes else dicom_header.window(first)
    return finish(
        path,
        [array],
        axes,
        spacing=sizes,
        contrast_limits=[window] if window is not None else [],
        n_series=n_series,
        warnings=notes,
    )


def _frame_count(watch: FileWatch, header: Any) -> int:
    """Return the number of frames; InputError where the file has no room for them.

    Frames are listed one by one, which for a number that means nothing would never end.
    """
    count, size = dicom_header.frame_count(header), watch.path.stat().st_size
    if count * dicom_header.least_frame_bytes(header) > size:
        raise InputError(
            f"{watch.path} is DICOM that is cut short or damaged (its header promises {count:,} "
            f"frames, and it has {size:,} bytes); export it again."
        )
    return count


def _in_order(
    path: Path, files: Sequence[_Header], notes: list[str]
) -> tuple[list[_Header], dict[str, float]]:
    """Sort slices by place, else by number, else by name; return also the step along Z."""
    places = [dicom_header.place(header) for _, header in files]
    known = [each for each in places if each is not None]
    if len(known) < len(files) or len(set(known)) < len(files):
        by_number = sorted(files, key=lambda f: (int(f[1].get("InstanceNumber") or 0), f[0].path))
        return by_number, {}
    order = np.argsort(known)
    steps = np.diff(np.asarray(known)[order])
    if not steps.size:
        return list(files), {}
    step = float(np.median(steps))
    if steps.max() - steps.min() > _UNEVEN * step:
        notes.append(
            f"{path}: the steps between its slices differ ({steps.min():.3g} to {steps.max():.3g} "
            f"mm), perhaps as slices are missing; all are shown {step:.3g} mm apart."
        )
    return [files[i] for i in order], {"Z": step * 1e3}
