"""The objects table as the features of a labels layer."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from napari_espmedsam.widgets.objects_table import ObjectTable

INDEX = "index"
"""Name under which napari looks for the label of a row."""


def write_features(layer: Any, table: ObjectTable, ours: Collection[str]) -> set[str]:
    """Write a table into the features of a labels layer.

    Columns that the user has added stay with their labels.

    Parameters
    ----------
    layer
        A ``napari.layers.Labels`` of ours.
    table : ObjectTable
        The objects.
    ours : collection of str
        Columns that an earlier call has written.

    Returns
    -------
    set of str
        Columns that are written now.
    """
    columns = {INDEX: table.labels, **table.columns}
    written = set(columns)
    before = layer.features
    theirs = [name for name in before.columns if name not in written | set(ours)]
    if theirs and INDEX in before.columns and before[INDEX].is_unique:
        kept = before.set_index(INDEX)[theirs].reindex(table.labels)
        columns |= {name: kept[name].to_numpy() for name in theirs}
    layer.features = columns
    return written
