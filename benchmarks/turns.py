"""Subjects taking turns, each in a process of its own: one that fails takes no other with it."""

from __future__ import annotations

import ctypes
import gc
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

PATIENCE = 300  # seconds that one step of a subject may take
ENOUGH = 60  # seconds of a subject after which it sits out: its figures are long ones


@dataclass
class Result:
    """What is known of one subject.

    Attributes
    ----------
    name : str
        Of the subject.
    seconds : list of float
        Of its pass in each round.
    parameters : int
        How many it has.
    memory : float or None
        Extra memory of the first pass in MB, where the system tells it.
    problem : str
        Why there are no figures; "" if there are.
    """

    name: str
    seconds: list[float] = field(default_factory=list)
    parameters: int = 0
    memory: float | None = None
    problem: str = ""

    def ratios(self, first: Result) -> list[float]:
        """Times as fast as another, round by round."""
        return [a / b for a, b in zip(first.seconds, self.seconds, strict=False)]


class Player(Protocol):
    """One subject that has been made. Both methods raise RuntimeError with the reason."""

    def ready(self) -> tuple[int, float | None]:
        """Wait until it is made: the number of its parameters, and its extra memory in MB."""

    def go(self) -> float:
        """Do one pass: its seconds."""

    def close(self) -> None:
        """End it."""


def take_turns(
    names: Sequence[str],
    start: Callable[[str], Player],
    rounds: int,
    report: Callable[[str], None] = lambda line: None,
) -> list[Result]:
    """Make all subjects, one after the other, and let them take turns.

    Parameters
    ----------
    names : sequence of str
        Of the subjects.
    start : callable
        Gives the player of a name.
    rounds : int
        Passes of each; fewer of one whose passes took a minute together.
    report : callable
        Receives a line now and then.
    """
    results = {name: Result(name) for name in names}
    players: dict[str, Player] = {}
    try:
        for name, result in results.items():
            report(f"making: {name}")
            try:
                players[name] = start(name)
                result.parameters, result.memory = players[name].ready()
            except (RuntimeError, OSError) as error:  # OSError: no room for one more process
                result.problem = str(error)
        for number in range(rounds):
            report(f"round {number + 1} of {rounds}")
            for name, result in results.items():
                if not result.problem and sum(result.seconds) < ENOUGH:
                    _turn(players[name], result)
    finally:
        for player in players.values():
            player.close()
    return list(results.values())


def _turn(player: Player, result: Result) -> None:
    try:
        result.seconds.append(player.go())
    except RuntimeError as error:
        result.problem = str(error)


class Worker:
    """A player in a process of its own."""

    def __init__(
        self, name: str, image: npt.NDArray[np.float32], threads: int, cpu_time: bool
    ) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_play, args=(theirs, name, image, threads, cpu_time))
        self._process.start()
        theirs.close()  # so that its end is noticed here

    def ready(self) -> tuple[int, float | None]:
        """See :class:`Player`."""
        parameters, memory = self._hear()
        return parameters, memory

    def go(self) -> float:
        """See :class:`Player`."""
        return float(self._hear("go"))

    def close(self) -> None:
        """See :class:`Player`."""
        self._pipe.close()
        self._process.join(5)
        if self._process.is_alive():
            self._process.kill()

    def _hear(self, word: str = "") -> Any:
        """Say a word, if any, and wait for the answer."""
        try:
            if word:
                self._pipe.send(word)
            if not self._pipe.poll(PATIENCE):
                raise RuntimeError(f"failed: no answer within {PATIENCE} s")
            answer = self._pipe.recv()
        except (EOFError, OSError) as error:
            self._process.join(5)
            code = self._process.exitcode
            why = "too little memory?" if code == -9 else f"exit code {code}"
            raise RuntimeError(f"failed: its process ended ({why})") from error
        if isinstance(answer, str):
            raise RuntimeError(f"failed: {answer}")
        return answer


def _play(
    pipe: Connection, name: str, image: npt.NDArray[np.float32], threads: int, cpu_time: bool
) -> None:
    """Make a subject and do passes of it until the pipe is closed."""
    import torch
    from subjects import SUBJECTS

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    clock = time.process_time if cpu_time else time.perf_counter
    subject = next(each for each in SUBJECTS if each.name == name)
    try:
        with torch.inference_mode():
            run, parameters = subject.make(torch.from_numpy(image))
            pipe.send((parameters, extra_memory(run)))
            while pipe.recv():
                start = clock()
                run()
                pipe.send(clock() - start)
    except (EOFError, BrokenPipeError):  # closed
        return
    except Exception as error:
        text = " ".join(str(error).split())
        pipe.send(f"{type(error).__name__}: {text:.120}".replace("|", "/"))


def extra_memory(run: Callable[[], object]) -> float | None:
    """Highest resident size during a call over that before it, in MB; None where unknown."""
    if sys.platform != "linux":
        run()
        return None
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts again from here
    before = _status("VmRSS")
    run()
    return (_status("VmHWM") - before) / 1000


def _status(field_name: str) -> float:
    """A size from /proc/self/status, in kB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1.024 for line in lines if line.startswith(field_name))


def spread(values: Sequence[float], form: str = ".2f") -> str:
    """Median and range as text."""
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:{form}} ({low:{form}} to {high:{form}})"
