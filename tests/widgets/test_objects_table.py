"""The objects table without a window: sources, columns, scores, features, links, the Qt model."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Labels
from qtpy.QtCore import Qt

from napari_espmedsam.errors import InputError
from napari_espmedsam.widgets.layers import METADATA_KEY, geometry_of
from napari_espmedsam.widgets.linking import LinkJob, add_linked, link, ways_to_link
from napari_espmedsam.widgets.objects_book import ObjectsBook
from napari_espmedsam.widgets.objects_columns import columns_of, new_column
from napari_espmedsam.widgets.objects_features import write_features
from napari_espmedsam.widgets.objects_model import ObjectsModel
from napari_espmedsam.widgets.objects_source import (
    axes_of,
    find_image,
    is_tool,
    our_record,
    source_of,
)
from napari_espmedsam.widgets.objects_table import ObjectTable, Scores, measure, with_locks


def _ours(layer: Any, **record: Any) -> Any:
    layer.metadata = {METADATA_KEY: record}
    return layer


def _table(labels: list[int], **columns: Any) -> ObjectTable:
    measured = {"label": np.array(labels, np.int64)}
    return ObjectTable("YX", measured | {name: np.array(v) for name, v in columns.items()})


# ---- from a layer to arrays -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("record", "labels_shape", "expected"),
    [
        ("ZYX", (2, 20, 30), "ZYX"),
        ("CYX", (20, 30), "YX"),
        ("YXC", (20, 30), "YX"),  # colours
        ("YXC", (20, 30, 1), "YXC"),  # channels: one sample stays
        ("ZCYX", (2, 1, 20, 30), "ZCYX"),
        ("YXS", (20, 30), "YX"),
        ("XYZ", (30, 20, 2), "XYZ"),
        ("", (2, 20, 30), "ZYX"),
        ("", (5, 2, 20, 30), "TZYX"),
    ],
)
def test_axes_come_from_our_record_or_are_guessed(record, labels_shape, expected) -> None:
    layer = _ours(Labels(np.zeros(labels_shape, np.uint8)), axes=record)
    assert axes_of(layer) == expected
    assert source_of(layer).read_labels().ndim == len(expected.replace("C", ""))


def test_axes_of_a_layer_of_the_user_come_from_its_labels() -> None:
    layer = Labels(np.zeros((2, 20, 30), np.uint8), axis_labels=("t", "y", "x"))
    assert axes_of(layer) == "TYX"
    many = Labels(np.zeros((2, 2, 2, 20, 30), np.uint8), name="many")
    with pytest.raises(InputError, match=r"'many' has 5 axes.*up to four"):
        source_of(many)
    channels = Labels(np.zeros((3, 20, 30), np.uint8), axis_labels=("c", "y", "x"))
    with pytest.raises(InputError, match="Split the layer"):
        source_of(channels)


def test_the_image_of_a_layer_is_known_by_name_shape_and_type() -> None:
    viewer = ViewerModel()
    record = {"image": "cells", "shape": [20, 30], "dtype": "uint16", "axes": "YX"}
    labels = _ours(viewer.add_labels(np.zeros((20, 30), np.uint8), name="result"), **record)
    assert find_image(viewer, labels) is None
    viewer.add_labels(np.zeros((20, 30), np.uint16), name="cells")
    assert find_image(viewer, labels) is None
    viewer.layers["cells"].name = "other"
    image = viewer.add_image(np.zeros((20, 30), np.uint8), name="cells")
    assert find_image(viewer, labels) is None
    image.data = np.zeros((20, 30), np.uint16)
    assert find_image(viewer, labels) == image
    assert find_image(viewer, viewer.layers["other"]) is None


def test_tools_of_ours_are_no_results() -> None:
    tool = _ours(Labels(np.zeros((20, 30), np.uint8)), role="prompts")
    assert is_tool(tool)
    assert our_record(tool) is None
    assert not is_tool(Labels(np.zeros((20, 30), np.uint8)))
    assert our_record(_ours(Labels(np.zeros((20, 30), np.uint8)), axes="YX")) == {"axes": "YX"}


def test_the_channel_that_was_segmented_gives_the_brightness() -> None:
    viewer = ViewerModel()
    data = np.zeros((2, 3, 20, 30), np.float32)  # Z, C, Y, X
    data[:, 1] = 7.0
    viewer.add_image(data, name="cells")
    labels = np.zeros((2, 1, 20, 30), np.uint32)
    labels[0, 0, 2:5, 3:9] = 4
    layer = viewer.add_labels(labels, scale=(2.0, 3.0, 0.5, 0.5), units=("micrometer",) * 4)
    record = {"image": "cells", "shape": list(data.shape), "dtype": "float32", "axes": "ZCYX"}
    _ours(layer, channel=1, rgb=False, **record)
    source = source_of(layer, find_image(viewer, layer))
    assert source.axes == "ZYX"
    assert source.spacing["Z"] == (2.0, "micrometer")
    table = measure(source)
    assert table.measured["mean_intensity"].tolist() == [7.0]
    assert table.measured["volume_um3"].tolist() == [18 * 2.0 * 0.25]
    assert table.box(0) == ([0, 2, 3], [1, 5, 9])
    assert table.planes_of(0, source.leading_axes) == [(0,)]
    assert source.pixel_of(4, *table.box(0)) in ([0, 0, 3, 5], [0, 0, 3, 6])
    assert source.stack_point([1, 0, 5, 6]) == [1, 5, 6]


def test_colours_give_three_columns_and_transposed_axes_the_right_box() -> None:
    viewer = ViewerModel()
    data = np.zeros((20, 30, 4), np.uint8)
    data[..., 2] = 9
    viewer.add_image(data, rgb=True, name="cells")
    labels = np.zeros((20, 30), np.uint32)
    labels[2:5, 3:9] = 4
    layer = viewer.add_labels(labels)
    record = {"image": "cells", "shape": [20, 30, 4], "dtype": "uint8", "axes": "XYC"}
    _ours(layer, channel=None, rgb=True, **record)
    table = measure(source_of(layer, find_image(viewer, layer)))
    assert table.measured["mean_blue"].tolist() == [9.0]
    assert table.measured["mean_red"].tolist() == [0.0]
    assert table.box(0) == ([3, 2], [9, 5])  # the layer's first axis is X
    assert table.planes_of(0, "") == [()]


def test_a_lazy_layer_is_read_by_the_worker_alone() -> None:
    import dask.array as da

    labels = np.zeros((3, 20, 30), np.uint32)
    labels[1, 2:5, 3:9] = 4
    reads = []

    def read(block: Any) -> Any:
        reads.append(block.shape)
        return block

    lazy = da.from_array(labels, chunks=(1, 20, 30)).map_blocks(read, meta=labels[:0])
    layer = Labels(lazy, axis_labels=("z", "y", "x"))
    del reads[:]
    source = source_of(layer)
    assert reads == []
    table = measure(source)
    assert table.labels.tolist() == [4]
    del reads[:]
    assert source.pixel_of(4, *table.box(0))[0] == 1
    assert reads == [(1, 20, 30)]  # the planes of the box only


def test_the_place_of_an_object_lies_on_it() -> None:
    labels = np.zeros((4, 40, 40), np.uint32)
    labels[1, 5:35, 5:35] = 1  # a ring on its main plane, and a speck on another
    labels[1, 8:32, 8:32] = 0
    labels[3, 0, 0] = 1
    source = source_of(Labels(labels))
    table = measure(source)
    z, y, x = (int(n) for n in source.pixel_of(1, *table.box(0)))
    assert z == 1
    assert labels[z, y, x] == 1
    labels[:] = 0  # gone since it was measured
    assert source.pixel_of(1, *table.box(0)) == [2.0, 17.0, 17.0]


# ---- columns, scores, locks -------------------------------------------------------------------


def test_headings_carry_the_unit() -> None:
    names = ("area_um2", "volume_um3", "equivalent_diameter_px", "centroid_z_nm", "perimeter_world")
    headings = [new_column(name, np.zeros(1)).heading for name in (*names, "time_s", "mine")]
    assert headings == [
        "Area (µm²)",
        "Volume (µm³)",
        "Diameter (px)",
        "z (nm)",
        "Perimeter (units)",
        "Time (s)",
        "mine",
    ]


def test_numbers_have_three_digits_or_nothing() -> None:
    column = new_column("area_um2", np.array([123.456, 98.7, np.nan]))
    assert [column.text(i) for i in range(3)] == ["123", "99", ""]
    small = new_column("area_mm2", np.array([1.2345e-7, 2e-7]))
    assert small.text(0) == "1.23e-07"
    assert new_column("label", np.array([7])).text(0) == "7"
    assert new_column("doubt", np.array([0.25, 0.5])).text(0) == "0.250"


def test_bounding_boxes_go_into_files_and_not_on_the_screen() -> None:
    labels = np.zeros((20, 30), np.uint32)
    labels[2:5, 3:9] = 1
    table = measure(source_of(Labels(labels)))
    assert "bbox_min_y_px" in table.columns
    assert not [c.name for c in columns_of(table) if c.name.startswith("bbox")]


def test_scores_of_several_planes_come_together() -> None:
    table = _table([3, 5, 8])
    scores = Scores()
    plane = {"label": np.array([3, 5]), "mean_probability": np.array([0.9, 0.6])}
    scores.set_plane((0,), 0, plane | {"doubt": np.array([0.1, 0.8])})
    plane = {"label": np.array([5, 77]), "mean_probability": np.array([0.8, 0.5])}
    scores.set_plane((1,), 0, plane | {"doubt": np.array([0.3, 1.0])})
    found = scores.of(table)
    np.testing.assert_allclose(found["mean_probability"], [0.9, 0.7, np.nan])
    np.testing.assert_allclose(found["doubt"], [0.1, 0.8, np.nan])  # that of the worst plane
    assert "prompt_agreement" not in found
    scores.set_plane((0,), 0, {"label": np.array([8]), "doubt": np.array([0.2])})
    np.testing.assert_allclose(scores.of(table)["doubt"], [np.nan, 0.3, 0.2])
    assert scores.of(_table([1])) == {}


def test_time_points_are_told_apart() -> None:
    labels = np.zeros((3, 20, 30), np.uint32)
    labels[0, 2:5, 3:9] = labels[2, 10:16, 10:19] = 6
    table = measure(source_of(Labels(labels, axis_labels=("t", "y", "x"))))
    assert [table.key(row) for row in range(2)] == [(0, 6), (2, 6)]
    assert table.find(6, 2) == 1
    assert table.find(6, 1) == 0  # not there: the first place
    assert table.find(7, 0) is None
    assert table.box(1) == ([2, 10, 10], [3, 16, 19])
    assert table.planes_of(1, "T") == [(2,)]
    scores = Scores()
    scores.set_plane((2,), 2, {"label": np.array([6]), "doubt": np.array([0.5])})
    np.testing.assert_array_equal(scores.of(table)["doubt"], [np.nan, 0.5])


def test_the_book_reviews_by_doubt_and_skips_what_is_locked() -> None:
    book, table = ObjectsBook(), _table([3, 5, 8])
    book.show("a", table)
    book.order_review([2, 0, 1])
    assert not book.has_scores
    assert [book.review.next() for _ in range(2)] == [(0, 8), (0, 3)]
    scores = {"label": np.array([3, 5, 8]), "doubt": np.array([0.1, 0.9, 0.4])}
    book.set_scores("a", (), 0, scores)
    book.set_scores("b", (), 0, scores)
    book.set_locks("a", {8})
    book.update()
    book.show("b", table)  # another layer, hence another review
    book.show("a", table)
    book.order_review([0, 1, 2])
    assert [book.review.next() for _ in range(3)] == [(0, 5), (0, 3), None]
    assert book.are_locked([(0, 8)])
    assert not book.are_locked([(0, 8), (0, 3)])
    assert not book.are_locked([])
    book.set_locks("a", None)
    assert not book.is_lockable
    book.forget_others(["b"])
    book.update()
    assert not book.has_scores


def test_locks_are_a_column_only_where_there_can_be_some() -> None:
    table = _table([3, 5])
    assert with_locks(table, None) is None
    assert with_locks(table, {5, 9}).tolist() == [False, True]
    assert with_locks(table, ()).tolist() == [False, False]


def test_features_keep_the_columns_of_the_user() -> None:
    layer = Labels(np.zeros((20, 30), np.uint8))
    ours = write_features(layer, _table([3, 5], area_px=[10.0, 20.0]), ())
    layer.features = layer.features.assign(cell_type=["T", "B"])
    write_features(layer, _table([5, 9], volume_px=[21.0, 4.0]), ours)
    assert list(layer.features.columns) == ["index", "label", "volume_px", "cell_type"]
    assert layer.features["index"].tolist() == [5, 9]
    assert layer.features["cell_type"].fillna("").tolist() == ["B", ""]


# ---- links ------------------------------------------------------------------------------------


def _job(layer: Any, along: str, *, tracks: bool = False) -> LinkJob:
    record = our_record(layer) or {}
    return LinkJob(source_of(layer), along, 0.5, tracks, layer.name, geometry_of(layer), record)


def _blocks(shape: tuple[int, ...]) -> np.ndarray:
    """Two objects that go through all planes, with an id of their own on each."""
    labels = np.zeros(shape, np.uint32)
    for n, index in enumerate(np.ndindex(shape[:-2])):
        labels[index][2:8, 2:8] = 2 * n + 1
        labels[index][10:18, 12:20] = 2 * n + 2
    return labels


def test_linking_makes_a_layer_of_its_own() -> None:
    viewer = ViewerModel()
    given = _blocks((4, 20, 30))
    kwargs = {"scale": (2.0, 0.5, 0.5), "translate": (1, 2, 3), "rotate": 20.0}
    old = viewer.add_labels(given.copy(), name="cells", **kwargs)
    assert ways_to_link(source_of(old)) == {"Z": "through Z"}
    new = add_linked(viewer, link(_job(old, "Z")))
    np.testing.assert_array_equal(old.data, given)
    assert old.metadata == {}
    assert len(old.features.columns) == 0
    assert np.unique(new.data).tolist() == [0, 1, 2]
    np.testing.assert_array_equal(new.data > 0, given > 0)
    assert geometry_of(new) == geometry_of(old)
    assert our_record(new)["linked"] == {"along": "Z", "min_overlap": 0.5, "labels": "cells"}
    assert new.name == "cells linked"


def test_time_and_depth_are_linked_in_turn_and_make_tracks() -> None:
    viewer = ViewerModel()
    labels = _blocks((3, 4, 20, 30))
    old = viewer.add_labels(labels, name="cells", axis_labels=("t", "z", "y", "x"))
    assert list(ways_to_link(source_of(old))) == ["ZT", "T", "Z"]
    linked = link(_job(old, "ZT", tracks=True))
    assert linked.n_objects == 2
    new = add_linked(viewer, linked)
    tracks = viewer.layers[-1]
    assert tracks.name == "cells tracks"
    np.testing.assert_allclose(tracks.data[0], [1, 0, 1.5, 4.5, 4.5])
    assert viewer.layers.selection.active == new
    assert np.unique(new.data).tolist() == [0, 1, 2]


def test_linking_keeps_an_axis_of_one_channel() -> None:
    viewer = ViewerModel()
    old = _ours(viewer.add_labels(_blocks((4, 20, 30))[:, None], name="cells"), axes="ZCYX")
    new = add_linked(viewer, link(_job(old, "Z")))
    assert new.data.shape == (4, 1, 20, 30)
    assert np.unique(new.data).tolist() == [0, 1, 2]
    assert axes_of(new) == "ZCYX"


def test_tracks_need_time_first() -> None:
    layer = _ours(Labels(_blocks((4, 3, 20, 30)), name="cells"), axes="ZTYX")
    with pytest.raises(InputError, match=r"'cells' has the axes ZTYX.*without tracks"):
        link(_job(layer, "T", tracks=True))
    assert link(_job(layer, "ZT")).labels.shape == (4, 3, 20, 30)


# ---- the Qt model -----------------------------------------------------------------------------


@pytest.fixture
def model(qtbot: Any) -> ObjectsModel:
    """Return a model of four objects, of which one has no area."""
    model = ObjectsModel()
    columns = columns_of(_table([4, 2, 9, 7], area_px=[5.0, 8.0, np.nan, 5.0]))
    model.set_columns(columns)
    return model


def _column(model: ObjectsModel, name: str) -> list[str]:
    at = model.position(name)
    return [model.data(model.index(row, at)) for row in range(model.rowCount())]


def test_sorting_is_stable_and_puts_the_unknown_last(model) -> None:
    assert _column(model, "label") == ["4", "2", "9", "7"]
    model.sort(model.position("area_px"))
    assert _column(model, "label") == ["4", "7", "2", "9"]
    model.sort(model.position("area_px"), Qt.SortOrder.DescendingOrder)
    assert _column(model, "label") == ["2", "4", "7", "9"]
    assert model.rows_on_screen([0, 1]) == [1, 0]
    model.sort(-1)
    assert _column(model, "label") == ["4", "2", "9", "7"]


def test_sorting_outlives_new_numbers_and_moves_the_selection(model) -> None:
    model.sort(0)
    from qtpy.QtCore import QPersistentModelIndex

    chosen = QPersistentModelIndex(model.index(2, 0))  # label 7
    model.sort(0, Qt.SortOrder.DescendingOrder)
    assert (chosen.row(), model.data(model.index(chosen.row(), 0))) == (1, "7")
    model.set_columns(columns_of(_table([1, 3, 2])))
    assert _column(model, "label") == ["3", "2", "1"]
    model.set_columns(())
    assert (model.rowCount(), model.columnCount()) == (0, 0)


def test_a_box_is_ticked_only_where_objects_can_be_locked(model) -> None:
    toggled: list[tuple[int, bool]] = []
    model.lock_toggled.connect(lambda row, on: toggled.append((row, on)))
    table = _table([4, 2])
    locked = ObjectTable("YX", table.measured, locked=np.array([False, True]))
    model.set_columns(columns_of(locked), lockable=True)
    model.sort(0)
    box = model.index(0, model.position("locked"))
    assert model.data(box, Qt.ItemDataRole.CheckStateRole) == Qt.CheckState.Checked
    assert model.setData(box, Qt.CheckState.Unchecked.value, Qt.ItemDataRole.CheckStateRole)
    assert toggled == [(1, False)]
    assert model.data(box, Qt.ItemDataRole.CheckStateRole) == Qt.CheckState.Checked
    model.set_columns(columns_of(locked), lockable=False)
    box = model.index(0, model.position("locked"))
    assert not model.setData(box, Qt.CheckState.Checked.value, Qt.ItemDataRole.CheckStateRole)
    assert not model.flags(box) & Qt.ItemFlag.ItemIsUserCheckable


def test_headings_explain_themselves(model) -> None:
    horizontal = Qt.Orientation.Horizontal
    at = model.position("area_px")
    assert model.headerData(at, horizontal) == "Area (px)"
    assert "Area" in model.headerData(at, horizontal, Qt.ItemDataRole.ToolTipRole)
    assert model.headerData(99, horizontal) is None


def test_only_cells_in_view_are_written(model, monkeypatch) -> None:
    """Thousands of rows stay fast because nothing is done for each of them."""
    count = 100_000
    table = _table(list(range(count)), area_px=np.random.default_rng(0).random(count))
    columns = columns_of(table)
    texts = []
    fake = [
        SimpleNamespace(name=c.name, values=c.values, text=lambda row: texts.append(row))
        for c in columns
    ]
    model.set_columns(fake)
    model.sort(1)
    assert texts == []
    assert np.all(np.diff(columns[1].values[model.order]) >= 0)
