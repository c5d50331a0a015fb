"""The grid of prompt cells lies on the picture that napari shows, whatever the image's axes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image, Labels

from napari_espmedsam.studio.events import PromptView
from napari_espmedsam.widgets.canvas_place import cells_under, place_canvas, set_place
from napari_espmedsam.widgets.layers import describe, geometry_of

SHAPES = {"Z": 5, "T": 2, "C": 3, "Y": 64, "X": 100}
TRANSFORMS: dict[str, Any] = {
    "plain": lambda n: {},
    "scaled": lambda n: {"scale": (0.5,) * (n - 1) + (0.25,), "translate": tuple(range(1, n + 1))},
    "turned": lambda n: {"rotate": _turn(n, 30), "scale": (2.0,) * (n - 1) + (0.5,)},
    "sheared": lambda n: {"shear": _shear(n), "scale": (2.0,) * (n - 1) + (0.5,)},
    "affine": lambda n: {"affine": _affine(n), "translate": (3.0,) * n},
    "flipped": lambda n: {"scale": (1.0,) * (n - 1) + (-0.5,)},
}


def _turn(n: int, degrees: float) -> np.ndarray:
    angle = np.deg2rad(degrees)
    matrix = np.eye(n)
    matrix[-2:, -2:] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return matrix


def _shear(n: int) -> np.ndarray:
    matrix = np.eye(n)
    matrix[-2, -1] = 0.4
    return matrix


def _affine(n: int) -> np.ndarray:
    matrix = np.eye(n + 1)
    matrix[-3:, -3:] = [[0.9, 0.2, -3.0], [-0.1, 1.1, 4.0], [0.0, 0.0, 1.0]]
    return matrix


def _view(scale: tuple[float, float] = (32.0, 30.0), offset: int = 0) -> PromptView:
    shape = (2, 4)
    state = np.arange(8, dtype=np.uint8).reshape(shape) % 4
    translate = (0.5 * scale[0] - 0.5 + offset, 0.5 * scale[1] - 0.5 + offset)
    return PromptView(np.zeros(shape, np.float32), state, scale, translate)


def _image(axes: str, **kwargs: Any) -> Image:
    shape = tuple(SHAPES[letter] for letter in axes)
    return Image(np.zeros(shape, np.uint8), rgb=False, name="cells", **kwargs)


@pytest.mark.parametrize("axes", ["YX", "ZYX", "TZYX", "CYX", "ZCYX", "XY", "ZXY", "YXZ", "YXC"])
@pytest.mark.parametrize("name", TRANSFORMS)
def test_a_cell_lies_on_its_pixels_in_every_plane(axes: str, name: str) -> None:
    """Wherever the sliders stand, the world point of a pixel lies in the cell of that pixel."""
    image = _image(axes, **TRANSFORMS[name](len(axes)))
    view = _view()
    place = place_canvas(describe(image), axes, view)
    cells = Labels(place.to_layer(view.state).copy(), **place.geometry.layer_arguments())
    rng = np.random.default_rng(1)
    for _ in range(20):
        pixel = [int(rng.integers(SHAPES[letter])) for letter in axes]
        world = image.data_to_world(pixel)
        cell = place.cell_at(cells.world_to_data(world))
        y, x = pixel[axes.index("Y")], pixel[axes.index("X")]
        assert cell == (y // 32, x // 30)
        position = np.round(cells.world_to_data(world)).astype(int)
        assert cells.data[tuple(position)] == view.state[cell]
    assert cells.units == image.units[-cells.ndim :]


def test_pixel_borders_are_cell_borders() -> None:
    image = _image("YX", scale=(0.3, 0.7))
    view = _view((32.0, 25.0), offset=7)
    place = place_canvas(describe(image), "YX", view)
    cells = Labels(view.state, **place.geometry.layer_arguments())
    np.testing.assert_allclose(
        cells.data_to_world((-0.5, -0.5)), image.data_to_world((6.5, 6.5)), atol=1e-9
    )
    np.testing.assert_allclose(
        cells.data_to_world((1.5, 3.5)), image.data_to_world((70.5, 106.5)), atol=1e-9
    )


@pytest.mark.parametrize("how", ["rotate", "affine"])
def test_layers_turned_against_the_sliders_stay_on_the_picture_on_the_screen(
    how: str, make_napari_viewer: Any
) -> None:
    """napari shows such an image without what leaves the slice; the cells have to follow."""
    affine = np.eye(4)
    affine[1, 0], affine[2, 0] = 3.0, -4.0
    viewer = make_napari_viewer()
    image = _image("ZYX", **({"rotate": (15, 20, 10)} if how == "rotate" else {"affine": affine}))
    viewer.add_layer(image)
    viewer.dims.set_current_step(0, 4)
    view = _view()
    place = place_canvas(describe(image), "ZYX", view)
    cells = viewer.add_labels(view.state, **place.geometry.layer_arguments())
    visuals = viewer.window._qt_viewer.canvas.layer_to_visual

    def on_screen(layer: Any, y: float, x: float) -> np.ndarray:
        # a pixel of a picture begins at its index here, not half a pixel before
        return visuals[layer].node.transform.map([x + 0.5, y + 0.5])[:2]

    for y, x in ((15.5, 14.5), (47.5, 104.5)):
        np.testing.assert_allclose(
            on_screen(image, y, x),
            on_screen(cells, (y - 15.5) / 32, (x - 14.5) / 30),
            atol=1e-4,
        )


def test_pictures_go_there_and_back_for_any_order_of_axes() -> None:
    view = _view()
    for axes, shape in {"ZYX": (2, 4), "XY": (4, 2), "YXZ": (2, 4, 1), "YZX": (2, 1, 4)}.items():
        place = place_canvas(describe(_image(axes)), axes, view)
        data = place.to_layer(view.state).copy()
        assert data.shape == shape
        np.testing.assert_array_equal(place.to_picture(data), view.state)
        place.to_picture(data)[1, 2] = 9
        assert (data == 9).sum() == 1, "not a view"


@pytest.mark.parametrize("offset", [0, 10])
def test_cells_under_a_rectangle_are_those_that_it_touches(offset: int) -> None:
    view = _view((4.0, 3.0), offset=offset)  # 2 x 4 cells of 4 x 3 px
    rng = np.random.default_rng(2)
    for _ in range(200):
        corners = rng.uniform(-6, 18, (2, 2)) + offset
        (y0, x0), (y1, x1) = corners.min(axis=0), corners.max(axis=0)
        expected = {
            (r, c)
            for r in range(2)
            for c in range(4)
            if y0 < offset - 0.5 + 4 * (r + 1)
            and y1 > offset - 0.5 + 4 * r
            and x0 < offset - 0.5 + 3 * (c + 1)
            and x1 > offset - 0.5 + 3 * c
        }
        box = cells_under(view, corners)
        found = set() if box is None else _cells(box)
        assert found == expected


def test_a_point_has_one_cell_and_none_outside() -> None:
    view = _view((4.0, 3.0))
    assert cells_under(view, [0, 0]) == (slice(0, 1), slice(0, 1))
    assert cells_under(view, [3.4, 2.4]) == (slice(0, 1), slice(0, 1))
    assert cells_under(view, [3.6, 2.6]) == (slice(1, 2), slice(1, 2))
    assert cells_under(view, [3.5, 11.4]) == (slice(1, 2), slice(3, 4))
    assert cells_under(view, [-0.6, 0]) is None
    assert cells_under(view, [0, 11.6]) is None


def _cells(box: tuple[slice, slice]) -> set[tuple[int, int]]:
    return {
        (r, c) for r in range(box[0].start, box[0].stop) for c in range(box[1].start, box[1].stop)
    }


def test_a_layer_can_be_moved_to_a_place() -> None:
    viewer = ViewerModel()
    image = _image("ZYX", scale=(2.0, 0.5, 0.25), units=("um", "um", "um"))
    viewer.add_layer(image)
    view = _view()
    cells = viewer.add_labels(view.state)
    image.scale = (2.0, 1.5, 0.75)
    image.translate = (0.0, 5.0, 6.0)
    image.rotate = (0, 0, 20)
    geometry = place_canvas(describe(image), "ZYX", view).geometry
    set_place(cells, geometry)
    for pixel in ((0, 0), (63, 99)):
        world = image.data_to_world((3, *pixel))
        assert tuple(np.round(cells.world_to_data(world))) == (pixel[0] // 32, pixel[1] // 30)
    assert [str(unit) for unit in cells.units] == ["micrometer", "micrometer"]


def test_a_place_that_stays_is_not_set_again() -> None:
    layer = Image(np.zeros((4, 5)), scale=(2, 3), translate=(1, 1))
    heard: list[str] = []
    for name in ("scale", "translate", "rotate", "affine"):
        getattr(layer.events, name).connect(lambda event: heard.append(event.type))
    place = geometry_of(layer)
    set_place(layer, place)
    assert heard == []
    set_place(layer, replace(place, translate=(7.0, 1.0)))
    assert heard == ["translate"]
    np.testing.assert_array_equal(layer.translate, (7, 1))
