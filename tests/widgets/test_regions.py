"""The region that a user means, in pixels of the image, whatever the transforms."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_espmedsam.errors import InputError
from napari_espmedsam.studio.region import Region
from napari_espmedsam.widgets.layers import METADATA_KEY
from napari_espmedsam.widgets.regions import SHAPE, VIEW, WHOLE, find_region

PLACE: dict[str, Any] = {"scale": (3.0, 0.5, 0.25), "translate": (1.0, 100.0, -40.0)}


def rectangle(top: float, left: float, bottom: float, right: float) -> np.ndarray:
    """Return the corners of a rectangle that covers whole pixels, bottom and right excluded."""
    y0, x0, y1, x1 = top - 0.5, left - 0.5, bottom - 0.5, right - 0.5
    return np.array([[y0, x0], [y0, x1], [y1, x1], [y1, x0]])


def on_image(image: Any, corners: np.ndarray, axes: int = 2) -> np.ndarray:
    """Return corners in the world, along the last axes."""
    points = np.insert(corners, 0, 2, axis=1)
    return np.array([image.data_to_world(point) for point in points])[:, -axes:]


def open_stack(**place: Any) -> tuple[Any, Any]:
    """Return a viewer with a stack of 4 planes of 64 x 96 px."""
    viewer = ViewerModel()
    return viewer, viewer.add_image(np.zeros((4, 64, 96), np.uint8), name="cells", **place)


def test_the_whole_plane_is_no_region() -> None:
    viewer, image = open_stack()
    assert find_region(viewer, image, "ZYX", WHOLE) is None


@pytest.mark.parametrize("ndim", [2, 3])
def test_a_shape_in_world_units(ndim: int) -> None:
    viewer, image = open_stack(**PLACE)
    corners = on_image(image, rectangle(10, 20, 40, 70), ndim)
    viewer.add_shapes([corners], shape_type="rectangle")
    assert find_region(viewer, image, "ZYX", SHAPE) == Region(10, 20, 40, 70)


def test_a_shape_with_a_place_of_its_own() -> None:
    viewer, image = open_stack(**PLACE)
    corners = on_image(image, rectangle(10, 20, 40, 70))
    viewer.add_shapes(
        [(corners - [7, 3]) / [2.0, 4.0]], scale=(2.0, 4.0), translate=(7, 3), shape_type="polygon"
    )
    assert find_region(viewer, image, "ZYX", SHAPE) == Region(10, 20, 40, 70)


def test_a_shape_on_a_turned_image_is_what_surrounds_it() -> None:
    viewer, image = open_stack(rotate=(0, 0, 90), scale=(1.0, 0.5, 0.5))
    corners = on_image(image, rectangle(10, 20, 40, 70))
    viewer.add_shapes([corners], shape_type="polygon")
    assert find_region(viewer, image, "ZYX", SHAPE) == Region(10, 20, 40, 70)


@pytest.mark.parametrize("axes", ["ZXY", "YXZ"])
def test_axes_in_another_order(axes: str) -> None:
    viewer = ViewerModel()
    lengths = {"Z": 4, "Y": 64, "X": 96}
    image = viewer.add_image(np.zeros([lengths[a] for a in axes], np.uint8), rgb=False)
    corners = rectangle(10, 20, 40, 70)
    vertices = np.stack(
        [np.full(4, 2.0) if letter == "Z" else corners[:, "YX".index(letter)] for letter in axes],
        axis=1,
    )
    viewer.add_shapes([vertices], shape_type="polygon")
    assert find_region(viewer, image, axes, SHAPE) == Region(10, 20, 40, 70)


def test_what_lies_beside_the_image_is_cut_off_or_refused() -> None:
    viewer, image = open_stack()
    shapes = viewer.add_shapes([rectangle(-20, 50, 30, 300)], shape_type="rectangle")
    assert find_region(viewer, image, "ZYX", SHAPE) == Region(0, 50, 30, 96)
    shapes.data = [rectangle(-20, 150, 30, 300)]
    with pytest.raises(InputError, match="does not meet 'cells'"):
        find_region(viewer, image, "ZYX", SHAPE)


def test_the_selected_shape_is_meant_and_never_a_marker() -> None:
    viewer, image = open_stack()
    shapes = viewer.add_shapes(
        [rectangle(0, 0, 30, 30), rectangle(5, 6, 40, 50)], shape_type="rectangle"
    )
    with pytest.raises(InputError, match="No shape is selected"):
        find_region(viewer, image, "ZYX", SHAPE)
    shapes.selected_data = {1}
    viewer.add_shapes(
        [rectangle(9, 9, 60, 60)],
        shape_type="rectangle",
        metadata={METADATA_KEY: {"role": "prompts"}},
    )
    assert find_region(viewer, image, "ZYX", SHAPE) == Region(5, 6, 40, 50)


def test_without_a_shape_it_says_what_to_do() -> None:
    viewer, image = open_stack()
    with pytest.raises(InputError, match="Add a shapes layer"):
        find_region(viewer, image, "ZYX", SHAPE)


def test_the_current_view(make_napari_viewer, qtbot) -> None:
    viewer = make_napari_viewer(show=True)
    image = viewer.add_image(np.zeros((4, 64, 96), np.uint8), name="cells", **PLACE)
    viewer.reset_view()
    qtbot.wait(50)
    assert find_region(viewer, image, "ZYX", VIEW) == Region(0, 0, 64, 96)
    viewer.scene.camera.center = tuple(image.data_to_world((0, 20, 30)))
    viewer.scene.camera.zoom *= 6
    qtbot.wait(50)
    region = find_region(viewer, image, "ZYX", VIEW)
    assert region is not None
    assert region.top <= 20 < region.bottom
    assert region.left <= 30 < region.right
    assert region.shape[0] < 40
    viewer.scene.camera.center = (0, -1000, -1000)
    qtbot.wait(50)
    with pytest.raises(InputError):
        find_region(viewer, image, "ZYX", VIEW)
    viewer.dims.order = (1, 0, 2)
    with pytest.raises(InputError, match="face on"):
        find_region(viewer, image, "ZYX", VIEW)
