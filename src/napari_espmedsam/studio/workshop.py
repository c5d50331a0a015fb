"""The worker's side of a session: which task comes when, and how it all ends."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import partial

from napari_espmedsam.studio import engine, events
from napari_espmedsam.studio.document import Document
from napari_espmedsam.studio.joining import Joiner
from napari_espmedsam.studio.planes import PlaneCache
from napari_espmedsam.studio.recording import Recorder
from napari_espmedsam.studio.renderer import Renderer
from napari_espmedsam.studio.source import Source
from napari_espmedsam.studio.suggestion import Adviser
from napari_espmedsam.studio.tasks import Steps, Tasks
from napari_espmedsam.studio.view import View

VISIBLE, ASKED, OTHERS, LATER, AHEAD, ADVICE, IDLE = range(7)
"""Priorities of tasks, the most urgent first."""


class Workshop:
    """The engine of a session and all that works in its thread.

    Parameters
    ----------
    source, document, view
        The parts that the user's thread shares.
    on_event : callable
        Gets the session's events, in the worker thread.
    max_bytes : int
        Memory for encoded planes.
    advise : bool
        Whether to look at other modalities unasked, once for each that is chosen.
    """

    def __init__(
        self,
        source: Source,
        document: Document,
        view: View,
        on_event: Callable[[events.Event], object],
        *,
        max_bytes: int,
        advise: bool,
    ) -> None:
        self._source, self._document, self._view = source, document, view
        self._on_event = on_event
        self._advise = advise and len(source.header.modalities) > 1
        self._advised: set[str] = set()  # modalities that have been compared with the others
        cache = PlaneCache(source, max_bytes)
        self.renderer = Renderer(document, cache)
        self.tasks = Tasks(document, view, self.renderer)
        self.recorder = Recorder(source, document, view, self.renderer, self.tasks)
        self.joiner = Joiner(source.worked, self.renderer, self.tasks)
        self.adviser = Adviser(source, document, cache)
        self.engine = engine.Engine(self._pass_on, at_exit=self._free, name="espmedsam-session")

    def update(self, again: bool = False) -> None:
        """Begin to do what is wanted by now; `again` announces the visible plane in any case."""
        submit = self.engine.submit
        if again:  # noted apart: an update that comes next replaces this one's task
            self.tasks.show_again()
        submit(("visible",), self._visible, priority=VISIBLE)
        submit(("others",), self.tasks.others, priority=OTHERS)
        submit(("ahead",), self.tasks.ahead, priority=AHEAD)
        plane = self._view.visible
        if self._advise and plane is not None and self._modality not in self._advised:
            submit(("advice", "own"), partial(self._own_advice, plane), priority=ADVICE)
        self._say_when_idle()

    def ask(self, task: str, work: Callable[[], Steps], priority: int, *about: Hashable) -> None:
        """Ask for something once; the same question replaces the one that waits."""
        self.engine.submit(
            (task, *about), partial(self._answer, task, work, about), priority=priority
        )
        self._say_when_idle()

    def _say_when_idle(self) -> None:
        self.engine.submit(("idle",), events.Idle, priority=IDLE)

    def _visible(self) -> Steps:
        plane = self._view.visible
        if plane is not None:
            self.renderer.cache.focus(self._document.plan, plane)
        yield from self.tasks.visible()

    def _answer(self, task: str, work: Callable[[], Steps], about: tuple[Hashable, ...]) -> Steps:
        try:
            yield from work()
        except Exception as error:
            plane = about[0] if about and isinstance(about[0], int) else None
            yield events.Failed(task, plane, error)

    def _own_advice(self, plane: int) -> Steps:
        """Look once for each modality; an error here interests nobody."""
        modality = self._modality
        for event in self.adviser.advise(plane):
            if isinstance(event, events.ModalitySuggested):
                first = not self._advised
                self._advised.add(modality)
                if first and event.modality is None:
                    return  # no earlier suggestion to take back
            yield event

    @property
    def _modality(self) -> str:
        return self._document.plan.modality

    def _pass_on(self, event: engine.Event) -> None:
        """Turn what the engine says into events of the session."""
        if isinstance(event, engine.Failed):
            name = event.key[0] if isinstance(event.key, tuple) else str(event.key)
            if name != "advice":
                self._on_event(events.Failed(name, None, event.error))
            return
        content = event.value if isinstance(event, engine.Step) else event.result
        if content is None:
            return
        self._on_event(content)
        if isinstance(content, events.Restored):
            self.update(again=True)

    def _free(self) -> None:
        self.renderer.clear()
        self._source.release()
