"""What the user of a session looks at: the visible plane, and the planes that shall have labels."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING

from napari_espmedsam.errors import InputError

if TYPE_CHECKING:
    from napari_espmedsam.inference.image import PlaneStack


class View:
    """The visible plane and the wanted ones. Safe to share between threads.

    Parameters
    ----------
    stack : PlaneStack
        Says how many planes there are and how they lie to each other.
    offset : tuple of int
        Row and column of the whole image where the session's region begins.
    """

    def __init__(self, stack: PlaneStack, offset: tuple[int, int] = (0, 0)) -> None:
        self.offset = offset
        self._stack = stack
        self._lock = threading.Lock()
        self._visible: int | None = None
        self._wanted: set[int] = set()

    @property
    def visible(self) -> int | None:
        """Number of the plane on the screen; None before the first one."""
        with self._lock:
            return self._visible

    def show(self, plane: int) -> None:
        """Put a plane on the screen."""
        self.check(plane)
        with self._lock:
            self._visible = int(plane)

    def want(self, planes: Iterable[int]) -> None:
        """Ask for the labels of more planes."""
        chosen = {int(plane) for plane in planes}
        for plane in chosen:
            self.check(plane)
        with self._lock:
            self._wanted |= chosen

    def keep(self, planes: Iterable[int]) -> None:
        """Want no planes but these and the visible one."""
        with self._lock:
            self._wanted = {int(plane) for plane in planes}

    def wanted(self) -> set[int]:
        """Planes whose labels are asked for, the visible one among them.

        Those that were only passed by on the way to it are not.
        """
        with self._lock:
            visible = set() if self._visible is None else {self._visible}
            return self._wanted | visible

    def outwards(self, planes: Iterable[int]) -> list[int]:
        """Order planes by their distance from the visible one; ahead comes before back."""
        centre = self.visible or 0
        return sorted(planes, key=lambda i: (distance(self._stack, i, centre), -i))

    def check(self, plane: int) -> None:
        """Refuse a number that is no plane of the image.

        Raises
        ------
        InputError
            If it is none.
        """
        if plane not in range(len(self._stack)):
            raise InputError(
                f"plane is {plane!r}, and the image has {len(self._stack)} plane(s). Give a number "
                f"from 0 to {len(self._stack) - 1}."
            )


def distance(stack: PlaneStack, one: int, other: int) -> int:
    """Count the steps between two planes, along T and Z."""
    pairs = zip(stack.index(one), stack.index(other), strict=True)
    return sum(abs(a - b) for a, b in pairs)
