"""A session whose events arrive in the GUI thread, and which is opened without making it wait."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, Qt, Signal  # type: ignore[attr-defined]

from napari_espmedsam.studio import engine
from napari_espmedsam.studio.region import Region
from napari_espmedsam.widgets.farewell import Farewell
from napari_espmedsam.widgets.form import Prepared
from napari_espmedsam.widgets.layers import level_zero
from napari_espmedsam.widgets.worker import Loader

if TYPE_CHECKING:
    from napari_espmedsam.studio.session import Session

OnEvent = Callable[[Any], object]
Make = Callable[[OnEvent], "Session"]
"""Loads the model and opens a session that reports to the given function; called in a thread."""


class SessionBridge(QObject):
    """Opens a session in a thread, and turns what it says into Qt signals.

    All signals arrive in the GUI thread, one after the other, and none after :meth:`close`. The
    session is closed with the bridge, and the bridge with its parent.

    Parameters
    ----------
    make
        Opens the session.
    parent
        Qt parent.

    Attributes
    ----------
    opened : Signal()
        :attr:`session` is there.
    failed : Signal(object)
        The exception that kept the session from being opened.
    event : Signal(object)
        An event of :mod:`napari_espmedsam.studio.events`.
    """

    opened = Signal()
    failed = Signal(object)
    event = Signal(object)

    def __init__(self, make: Make, parent: QObject) -> None:
        super().__init__(parent)
        self._arrived: deque[Any] = deque()
        self._is_handling = False
        self._post = _Post()
        self._post.arrived.connect(self._on_arrived, Qt.ConnectionType.QueuedConnection)
        self._opening = _Opening(make, self._post.send)
        self._opener = engine.Engine(self._post.send, name="espmedsam-open")
        # What is connected here must not hold the bridge: it may go with its parent at any time.
        self._close = partial(_close, self._post, self._opening, self._opener)
        self._farewell = Farewell(self, self._close)
        self._opener.submit("open", self._opening.run)

    @property
    def session(self) -> Session | None:
        """The session; None before `opened` and after :meth:`close`."""
        return self._opening.session

    @property
    def is_closed(self) -> bool:
        """Whether :meth:`close` was called."""
        return self._post.is_closed

    def close(self) -> None:
        """Close the session, or the one that is being opened. Nothing is reported any more."""
        if self.is_closed:
            return
        self._farewell.cancel()
        self._close()
        self._arrived.clear()

    def _on_arrived(self, event: Any) -> None:
        """Handle one event after the other.

        Whatever a plugin connects to new layers may let Qt work, so the next event can arrive
        while one is being handled.
        """
        self._arrived.append(event)
        if self._is_handling:
            return
        self._is_handling = True
        try:
            while self._arrived and not self.is_closed:
                self._handle(self._arrived.popleft())
        finally:
            self._is_handling = False

    def _handle(self, event: Any) -> None:
        if isinstance(event, engine.Done):
            self._opener.close(wait=False)
            self.opened.emit()
        elif isinstance(event, engine.Failed):
            self._opener.close(wait=False)
            self.failed.emit(event.error)
        else:
            self.event.emit(event)


class _Mail(QObject):
    """Emits in other threads. No child of the bridge, which may be half gone at that moment."""

    arrived = Signal(object)


class _Post:
    """What other threads hold of a bridge: once it is closed, nothing is sent."""

    def __init__(self) -> None:
        self._mail: _Mail | None = _Mail()
        self.arrived = self._mail.arrived
        self._lock = threading.Lock()

    @property
    def is_closed(self) -> bool:
        return self._mail is None

    def send(self, event: Any) -> None:
        with self._lock:
            if self._mail is not None:
                self._mail.arrived.emit(event)

    def close(self) -> None:
        """Let go of the Qt object in the thread that made it."""
        with self._lock:
            self._mail = self.arrived = None


class _Opening:
    """Opens a session, and closes it also if nobody wants it any more when it is there."""

    def __init__(self, make: Make, on_event: OnEvent) -> None:
        self._make: Make | None = make
        self._on_event = on_event
        self._lock = threading.Lock()
        self._closed = False
        self.session: Session | None = None

    def run(self) -> None:
        make, self._make = self._make, None  # it may hold a model
        if make is None or self._closed:
            return
        session = make(self._on_event)
        if not self._keep(session):
            session.close(wait=False)

    def _keep(self, session: Session) -> bool:
        with self._lock:
            if not self._closed:
                self.session = session
            return not self._closed

    def close(self) -> None:
        with self._lock:
            self._closed = True
            session, self.session = self.session, None
        if session is not None:
            session.close(wait=False)


def _close(post: _Post, opening: _Opening, opener: engine.Engine) -> None:
    opener.close(wait=False)
    opening.close()
    post.close()


def opener(prepared: Prepared, load: Loader, region: Region | None = None) -> Make:
    """Return what opens a session on an image; no layer and no widget is in it.

    Parameters
    ----------
    prepared
        Image and settings; a choice of planes is left out, since the user chooses them live.
    load
        Gives the model of a request.
    region
        Part of each plane to work on; None for all of it.
    """
    image, request = level_zero(prepared.layer), replace(prepared.request, planes=None)

    def make(on_event: OnEvent) -> Any:
        from napari_espmedsam.studio.session import Session

        segmenter: Any = load(request)
        return Session(segmenter, image, request, on_event, region=region)

    return make
