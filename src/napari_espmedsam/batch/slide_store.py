"""The result of a slide on disk: an OME-Zarr label image that grows chunk by chunk.

It lies in NAME.partial until it is complete. Finished chunks are recorded one file each, and a file
is there whole or not at all, so a run that was killed goes on where it was.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_espmedsam.batch.slide_chunk import ChunkResult
from napari_espmedsam.batch.slide_merge import ChunkRecord, Labels
from napari_espmedsam.errors import OutputError
from napari_espmedsam.io.atomic import atomic_path, check_folder
from napari_espmedsam.io.zarr_labels import (
    PROVENANCE,
    VERSION,
    holds_zarr,
    level_shapes,
    multiscale,
    new_level,
)

if TYPE_CHECKING:
    import zarr

    from napari_espmedsam.batch.slide_geometry import Window

ZARR_CHUNK = 1024  # divides a chunk of the slide: no two chunks write the same file of level 0


class SlideStore:
    """A folder that becomes an OME-Zarr label image.

    Parameters
    ----------
    path : Path
        The finished folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.partial = path.with_name(path.name + ".partial")
        self._run = self.partial / ".run"
        self.tiles = self._run / "tiles"
        self._replaced = self._run / "replaced"  # an older result, until the new one is whole

    def check(self, *, resume: bool, overwrite: bool) -> None:
        """See whether a result can be written, before any work.

        Raises
        ------
        OutputError
            If it exists already, an unfinished run or something else is in the way, or the folder
            is read-only.
        """
        check_folder(self.path.parent)
        if self.path.exists():
            if not overwrite:
                raise OutputError(
                    f"{self.path} exists already; pass --overwrite or another output name."
                )
            if not holds_zarr(self.path):
                raise OutputError(
                    f"{self.path} is no Zarr folder and would be replaced; choose another name."
                )
        if not self.partial.exists():
            return
        if not self._run.is_dir() and any(self.partial.iterdir()):
            raise OutputError(
                f"{self.partial} is no unfinished run and would be replaced; move it, or choose "
                "another output name."
            )
        if not (resume or overwrite):
            raise OutputError(
                f"{self.partial} holds an unfinished run; pass --resume to go on with it, or "
                "--overwrite to begin again."
            )

    def begin(self, record: Mapping[str, Any], shape: tuple[int, int], *, resume: bool) -> None:
        """Make the folder, or go on with one.

        Parameters
        ----------
        record : dict
            What decides the labels, as JSON values.
        shape : tuple of int
            (H, W) of the slide.
        resume : bool
            Whether chunks of an earlier run are kept.

        Raises
        ------
        OutputError
            If the earlier run had other settings, another model or slide; or on a full disk.
        """
        plan = self._run / "plan.json"
        with self._writing():
            if resume and plan.is_file():
                self._check_same(self._read_plan(plan), record)
                shutil.rmtree(self.tiles, ignore_errors=True)  # some may be half-written
                self.tiles.mkdir()
                return
            self._put_back()
            shutil.rmtree(self.partial, ignore_errors=True)
            self._create(shape)
            self.tiles.mkdir(parents=True)
            (self._run / "chunks").mkdir()
            with atomic_path(plan) as temporary:
                temporary.write_text(json.dumps(record, indent=1), encoding="utf-8")

    def done(self) -> tuple[int, ...]:
        """List the chunks that are finished."""
        return tuple(sorted(int(path.stem) for path in (self._run / "chunks").glob("[0-9]*.npz")))

    def add(self, chunk: int, core: Window, result: ChunkResult) -> None:
        """Write a chunk, with the numbers of its objects in the chunk, and record it as finished.

        Raises
        ------
        OutputError
            If it cannot be written.
        """
        with self._writing():
            self._levels()[0][core] = result.labels
            frame: dict[str, Any] = dict(zip("tblr", result.frame, strict=True))
            with atomic_path(self._chunk(chunk)) as temporary, temporary.open("wb") as file:
                np.savez_compressed(file, labels=result.labels, first=result.first, **frame)

    def records(self) -> dict[int, ChunkRecord]:
        """Load what the merge needs of each finished chunk."""
        found = {}
        for chunk in self.done():
            with self._reading(chunk) as arrays:
                frame = tuple(arrays[side] for side in "tblr")
                found[chunk] = ChunkRecord(arrays["first"], frame)
        return found

    def number(self, chunk: int, core: Window, table: Labels) -> None:
        """Write a chunk with its final numbers into all levels; again if need be."""
        with self._reading(chunk) as arrays:
            labels = np.take(table, arrays["labels"])
        with self._writing():
            for k, level in enumerate(self._levels()):
                step = 2**k
                rows, columns = (slice(c.start // step, -(-c.stop // step)) for c in core)
                level[rows, columns] = labels[::step, ::step]

    def finish(
        self, provenance: Mapping[str, Any], spacing: Mapping[str, float], *, overwrite: bool
    ) -> None:
        """Describe the result and give it its name; what only the run needed is removed.

        Raises
        ------
        OutputError
            If it exists meanwhile, or cannot be written.
        """
        with self._writing():
            self._group().attrs.update(self._attributes(provenance, spacing))
            if self.path.exists():
                if not overwrite:
                    raise OutputError(f"{self.path} exists meanwhile; move it and pass --resume.")
                shutil.rmtree(self._replaced, ignore_errors=True)
                os.replace(self.path, self._replaced)
            try:
                os.replace(self.partial, self.path)
            except OSError:
                self._put_back()
                raise
            shutil.rmtree(self.path / ".run", ignore_errors=True)

    def _put_back(self) -> None:
        """Give an older result its name back where no new one has taken it."""
        if self._replaced.is_dir() and not self.path.exists():
            os.replace(self._replaced, self.path)

    def _create(self, shape: tuple[int, int]) -> None:
        import zarr

        group = zarr.open_group(str(self.partial), mode="w", zarr_format=2)
        for k, level in enumerate(level_shapes(shape)):
            new_level(group, k, level, ZARR_CHUNK)

    def _group(self) -> zarr.Group:
        import zarr

        return zarr.open_group(str(self.partial), mode="r+", zarr_format=2)

    def _levels(self) -> list[zarr.Array[Any]]:
        group = self._group()
        first: Any = group["0"]
        return [group[str(k)] for k in range(len(level_shapes(first.shape)))]  # type: ignore[misc]

    def _attributes(
        self, provenance: Mapping[str, Any], spacing: Mapping[str, float]
    ) -> dict[str, Any]:
        known = spacing if {"Y", "X"} <= set(spacing) else {}
        return {
            "multiscales": [multiscale(self.path, "YX", known, len(self._levels()))],
            "image-label": {"version": VERSION},
            PROVENANCE: dict(provenance),
        }

    def _chunk(self, chunk: int) -> Path:
        return self._run / "chunks" / f"{chunk:08d}.npz"

    def _read_plan(self, plan: Path) -> Mapping[str, Any]:
        try:
            content = json.loads(plan.read_bytes())
            if not isinstance(content, dict):
                raise ValueError("it is no table")
        except (ValueError, RecursionError) as error:
            raise OutputError(
                f"{plan} is damaged ({error!s:.100}), so it cannot be said whether the unfinished "
                "run fits; pass --overwrite to begin again."
            ) from error
        return content

    @contextmanager
    def _reading(self, chunk: int) -> Iterator[Any]:
        path = self._chunk(chunk)
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                yield arrays
        except Exception as error:  # a zip archive can be damaged in many ways
            raise OutputError(
                f"{path} is damaged ({str(error) or type(error).__name__:.100}); remove it and "
                "pass --resume, and this part is computed again."
            ) from error

    def _check_same(self, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
        known = json.loads(json.dumps(new))
        other = [key for key in known if old.get(key) != known[key]]
        if other:
            key = other[0]
            raise OutputError(
                f"{self.partial} was begun with another {key} ({old.get(key)}, now {known[key]}); "
                "use the settings of then, or --overwrite to begin again."
            )

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise OutputError(
                f"cannot write {self.partial} ({error.strerror or error}); free some space or "
                "permissions there and pass --resume."
            ) from error
