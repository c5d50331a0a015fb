"""What a session says beside its labels: how sure it is, and what another modality would find."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_espmedsam.studio.events import ComparisonReady, ConfidenceReady
from napari_espmedsam.widgets.layers import ImageDescription
from napari_espmedsam.widgets.plane_picture import PlanePicture

if TYPE_CHECKING:
    from napari_espmedsam.studio.session import Session

# Nothing is laid over what is certain; doubt stands out.
_DOUBT = {"colors": [[1.0, 0.15, 0.9, 1.0], [1.0, 0.15, 0.9, 0.0]], "name": "espmedsam doubt"}


class SideViews:
    """A confidence layer and a comparison layer, each only while it is wanted.

    Both show the plane on the screen and are asked for anew when it changes.

    Parameters
    ----------
    viewer
        The ``napari.Viewer``.
    image
        Description of the image layer.
    axes
        One letter of ``TZCYX`` per axis of the image layer.
    """

    def __init__(self, viewer: Any, image: ImageDescription, axes: str) -> None:
        self._viewer, self._image, self._axes = viewer, image, axes
        self._confidence: PlanePicture | None = None
        self._comparison: PlanePicture | None = None
        self._modality = ""

    @property
    def confidence(self) -> Any | None:
        """The confidence layer, if there is one."""
        return None if self._confidence is None else self._confidence.layer

    @property
    def wants_confidence(self) -> bool:
        """Whether the confidence layer is there or on its way."""
        return self._confidence is not None and not self._confidence.is_deleted

    @property
    def comparison(self) -> Any | None:
        """The labels layer of the other modality, if there is one."""
        return None if self._comparison is None else self._comparison.layer

    @property
    def compared(self) -> str:
        """The other modality; "" for none."""
        gone = self._comparison is None or self._comparison.is_deleted
        return "" if gone else self._modality

    def show_confidence(self, wanted: bool) -> None:
        """Show how sure the model is of each pixel, or no longer; then call :meth:`ask`."""
        if self._confidence is not None:
            self._confidence.remove()
        self._confidence = None
        if wanted:
            self._confidence = PlanePicture(
                self._viewer,
                self._image,
                self._axes,
                self._viewer.add_image,
                f"Confidence of {self._image.name}",
                empty=1.0,
                rgb=False,
                colormap=_DOUBT,
                contrast_limits=(0.0, 1.0),
                blending="translucent",
            )

    def compare(self, modality: str) -> None:
        """Show what another modality finds, or "" for none; then call :meth:`ask`."""
        if self._comparison is not None:
            self._comparison.remove()
        self._comparison, self._modality = None, modality
        if modality:
            self._comparison = PlanePicture(
                self._viewer,
                self._image,
                self._axes,
                self._viewer.add_labels,
                f"{self._image.name} as {modality}",
            )

    def ask(self, session: Session, plane: int) -> None:
        """Ask for what is wanted of a plane; views that the user has deleted are no longer."""
        if self._confidence is not None and self._confidence.is_deleted:
            self._confidence = None
        if self._comparison is not None and self._comparison.is_deleted:
            self._comparison = None
        if self._confidence is not None:
            session.confidence(plane)
        if self._comparison is not None:
            session.compare(plane, self._modality)

    def take_confidence(self, event: ConfidenceReady) -> None:
        """Show an answer."""
        if self._confidence is not None:
            self._confidence.show(event.confidence, event.offset)

    def take_comparison(self, event: ComparisonReady) -> None:
        """Show an answer; one about a modality that is no longer wanted is passed over."""
        if self._comparison is None or event.modality != self._modality:
            return
        self._comparison.show(event.labels, event.offset)
        if self._comparison.layer is not None:
            self._comparison.layer.contour = 2  # outlines: the labels beside it stay visible

    def blank(self) -> None:
        """Show nothing until the next answer."""
        for view in self._views():
            view.blank()

    def place_on(self, image: ImageDescription) -> None:
        """Follow an image that was moved or scaled."""
        self._image = image
        for view in self._views():
            view.place_on(image)

    def remove(self) -> None:
        """Take the layers away."""
        for view in self._views():
            view.remove()
        self._confidence = self._comparison = None

    def _views(self) -> list[PlanePicture]:
        return [view for view in (self._confidence, self._comparison) if view is not None]
