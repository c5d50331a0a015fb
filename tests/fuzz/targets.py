"""What is fuzzed: functions of bytes that may raise the package's own errors and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.fuzz import readers, seeds

Run = Callable[[bytes], None]


@dataclass(frozen=True)
class Target:
    """Something that reads files.

    Attributes
    ----------
    run : callable
        Takes the content of a file; returns, or raises an ``EspMedSamError``.
    seeds : callable
        Returns valid contents to start from.
    max_len : int
        Longest content, in bytes.
    """

    run: Run
    seeds: Callable[[], list[bytes]]
    max_len: int = 20_000


TARGETS: dict[str, Target] = {
    "sidecar": Target(readers.sidecar, seeds.sidecars),
    "sidecar-sealed": Target(readers.sidecar_sealed, seeds.sidecars),
    "run-record": Target(readers.run_record, seeds.run_records),
    "settings": Target(readers.settings, seeds.settings),
    "slide-plan": Target(readers.slide_plan, seeds.slide_plans),
    "checkpoint": Target(readers.checkpoint, seeds.checkpoints, 80_000),
    "checkpoint-header": Target(readers.checkpoint_header, seeds.checkpoint_headers),
    "checkpoint-table": Target(readers.checkpoint_table, seeds.checkpoint_tables, 60_000),
    "authors-file": Target(readers.authors_file, seeds.authors_files, 40_000),
    "tiff": Target(readers.image("a.tif"), seeds.tiffs),
    "tiff-metadata": Target(readers.tiff_metadata, seeds.tiff_metadata),
    "dicom": Target(readers.image("a.dcm"), seeds.dicoms),
    "dicom-folder": Target(readers.dicom_folder, seeds.dicom_folders),
    "picture": Target(readers.image("a.png"), seeds.pictures),
    "zarr": Target(readers.zarr_folder, seeds.zarr_folders),
    "zarr-pyramid": Target(readers.zarr_pyramid, seeds.zarr_pyramids),
    "manifest": Target(readers.manifest, seeds.manifests),
    "recipe": Target(readers.recipe, seeds.recipes),
    "pack": Target(readers.pack, seeds.packs),
    "training-run": Target(readers.training_run, seeds.training_runs),
}
