"""OME-Zarr (NGFF 0.1 to 0.5) opened without reading it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from napari_espmedsam.errors import InputError
from napari_espmedsam.io import ngff
from napari_espmedsam.io.axes import our_axes
from napari_espmedsam.io.blosc_check import check_blosc_chunks
from napari_espmedsam.io.content import check_series, is_zarr
from napari_espmedsam.io.lazy_image import LazyImage
from napari_espmedsam.io.levels import finish, fitting
from napari_espmedsam.io.watch import FileWatch, lazy


def open_ome_zarr(path: Path, series: int = 0) -> LazyImage:
    """Open one image of an OME-Zarr folder.

    Parameters
    ----------
    path : Path
        A folder with the metadata of an image or of labels, or one as bioformats2raw writes it
        with images 0, 1, ... in it.
    series : int
        Which image of the latter; counted from 0.

    Returns
    -------
    LazyImage
        Three 8-bit channels that are declared as red, green and blue become colours.

    Raises
    ------
    InputError
        If it is no OME-Zarr image, lacks its largest level, or has no image `series`. A smaller
        level that is missing is left out and named in `warnings`.
    """
    try:
        return _open(path, series)
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"{path} has OME-Zarr metadata that cannot be used "
            f"({str(error).strip() or type(error).__name__}); export the image again."
        ) from error


def is_labels(path: Path) -> bool:
    """Tell whether an OME-Zarr folder says that it holds labels; False where it says nothing."""
    try:
        return "image-label" in ngff.attributes(_group(path))
    except Exception:
        return False


def label_images(path: Path) -> list[Path]:
    """List the label images that belong to an OME-Zarr image, as its ``labels`` group names them.

    Names that lead out of the folder, and what is not there, are left out.
    """
    try:
        names = ngff.attributes(_group(path / "labels")).get("labels", [])
        found = [path / "labels" / name for name in names if isinstance(name, str)]
        root = path.resolve()
        return [each for each in found if root in each.resolve().parents and is_zarr(each)]
    except Exception:
        return []


def _group(path: Path) -> Any:
    import zarr

    check_blosc_chunks()
    return zarr.open_group(str(path), mode="r", use_consolidated=False)


def _open(path: Path, series: int) -> LazyImage:
    try:
        group = _group(path)
    except Exception as error:
        raise InputError(
            f"{path} is no OME-Zarr image, but a bare Zarr array or damaged "
            f"({str(error).strip() or type(error).__name__}); name the folder above it."
        ) from error
    attributes = ngff.attributes(group)
    folder, n_series = path, 1
    if "multiscales" not in attributes:
        folder, n_series = _image_in(path, attributes, series)
        group = _group(folder)
        attributes = ngff.attributes(group)
    else:
        check_series(path, series, 1)
    return _image(path, folder, group, attributes, n_series)


def _image_in(path: Path, attributes: Mapping[str, Any], series: int) -> tuple[Path, int]:
    """Find image `series` in a folder that holds several."""
    if "plate" in attributes or "well" in attributes:
        raise InputError(
            f"{path} is a plate or a well with many fields; open one of them, for example "
            f"{path / 'A' / '1' / '0' if 'plate' in attributes else path / '0'}."
        )
    names = sorted((p for p in path.iterdir() if p.name.isdigit()), key=lambda p: int(p.name))
    images = [each for each in names if is_zarr(each)]
    if not images:
        raise InputError(
            f"{path} is Zarr without the metadata of an image (no 'multiscales' in its "
            "attributes); export it as OME-Zarr, or name the image in it."
        )
    check_series(path, series, len(images))
    return images[series], len(images)


def _image(
    path: Path, folder: Path, group: Any, attributes: Mapping[str, Any], n_series: int
) -> LazyImage:
    multiscale = attributes["multiscales"][0]
    watch = FileWatch(folder)
    warnings: list[str] = []
    arrays = _arrays(folder, group, multiscale["datasets"], warnings)
    letters = ngff.axes(path, multiscale, arrays[0].ndim)
    arrays = [each for each in arrays if each.ndim == len(letters)]
    levels = fitting([lazy(each, watch, letters) for each in arrays], letters)
    names, limits = ngff.channels(attributes)
    if ngff.is_colour(attributes, letters, arrays[0].shape, arrays[0].dtype):
        letters = letters.replace("C", "S")
    own = [our_axes(path, level, letters) for level in levels]
    return finish(
        path,
        [array for array, _ in own],
        own[0][1],
        spacing=ngff.spacing(multiscale),
        channel_names=names,
        contrast_limits=limits,
        n_series=n_series,
        warnings=warnings,
    )


def _arrays(
    folder: Path, group: Any, datasets: Sequence[Mapping[str, Any]], warnings: list[str]
) -> list[Any]:
    import zarr

    arrays = []
    for number, dataset in enumerate(datasets):
        name = str(dataset["path"])
        try:
            array = group[name]
            if not isinstance(array, zarr.Array):
                raise TypeError("it is no array")
        except Exception as error:
            reason = f"level {number} ({name}) is missing or damaged"
            if number == 0:
                raise InputError(
                    f"{folder}: {reason}, and without the largest level there is no image; copy "
                    "or export it again."
                ) from error
            warnings.append(f"{folder}: {reason} and is left out.")
            continue
        arrays.append(array)
    return arrays
