"""Names of the targets, known without importing what they read with."""

from __future__ import annotations

NAMES = (
    "sidecar",
    "sidecar-sealed",
    "run-record",
    "settings",
    "slide-plan",
    "checkpoint",
    "checkpoint-header",
    "checkpoint-table",
    "authors-file",
    "tiff",
    "tiff-metadata",
    "dicom",
    "dicom-folder",
    "picture",
    "zarr",
    "zarr-pyramid",
    "manifest",
    "recipe",
    "pack",
    "training-run",
)
