"""Everything that goes wrong while nobody looks: in slots, threads, finalizers, messages, logs."""

from __future__ import annotations

import logging
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from napari.utils.notifications import ErrorNotification, notification_manager


@contextmanager
def watch() -> Iterator[list[str]]:
    """Yield a list that each fault is added to."""
    found: list[str] = []

    def note(kind: Any, error: Any, trace: Any) -> None:
        found.append("".join(traceback.format_exception(kind, error, trace)))

    def note_thread(arguments: Any) -> None:
        note(arguments.exc_type, arguments.exc_value, arguments.exc_traceback)

    def note_finalizer(arguments: Any) -> None:
        found.append(f"{arguments.err_msg}: {arguments.exc_value!r} in {arguments.object!r}")

    def note_message(notification: Any) -> None:
        if isinstance(notification, ErrorNotification):
            found.append(notification.as_text())

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(self.format(record))

    handler = Handler(logging.ERROR)
    before = sys.excepthook, threading.excepthook, sys.unraisablehook
    sys.excepthook, threading.excepthook, sys.unraisablehook = note, note_thread, note_finalizer
    logging.getLogger().addHandler(handler)
    notification_manager.notification_ready.connect(note_message)
    try:
        yield found
    finally:
        notification_manager.notification_ready.disconnect(note_message)
        logging.getLogger().removeHandler(handler)
        sys.excepthook, threading.excepthook, sys.unraisablehook = before
