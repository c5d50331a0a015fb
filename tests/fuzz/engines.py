"""Who draws the inputs: atheris, which follows the code that they reach, or hypothesis."""

from __future__ import annotations

import logging
import resource
import signal
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path
from types import FrameType

from tests.fuzz.__main__ import MEGABYTES, SECONDS
from tests.fuzz.mutate import mutate


def load(name: str):  # type: ignore[no-untyped-def]  # importing Target imports the readers
    """Import a target, with what other libraries say about damaged files switched off."""
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    from tests.fuzz.targets import TARGETS

    return TARGETS[name]


def _limit_memory() -> None:
    """Let this process use 2 GB more than now; beyond it, Python raises MemoryError."""
    used = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
    limit = used + MEGABYTES * 2**20
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def run_atheris(name: str, runs: int, seconds: int, seed: int, finds: Path) -> None:
    """Fuzz a target with atheris; ends the process."""
    import atheris

    with atheris.instrument_imports(
        include=["napari_espmedsam", "training.manifest", "training.config", "training.data"]
    ):
        target = load(name)
    from tests.fuzz.readers import allowed

    run = allowed(target.run)

    def change(data: bytes, max_size: int, mutation_seed: int) -> bytes:
        if mutation_seed % 2:
            return atheris.Mutate(data, max_size)  # type: ignore[no-any-return]
        return mutate(data, mutation_seed)[:max_size]

    with tempfile.TemporaryDirectory() as corpus:
        for number, content in enumerate(target.seeds()):
            Path(corpus, f"seed{number}").write_bytes(content)
            run(content)  # what is imported late is imported now
        options = {
            "runs": runs,
            "seed": seed,
            "timeout": SECONDS,
            "rss_limit_mb": 0,  # _limit_memory does it
            "max_len": target.max_len,
            "max_total_time": seconds,
            "print_final_stats": 1,
            "artifact_prefix": f"{finds}/{name}-",
        }
        arguments = [f"-{key}={value}" for key, value in options.items()]
        _limit_memory()
        atheris.Setup([sys.argv[0], *arguments, corpus], run, custom_mutator=change)
        atheris.Fuzz()


def run_hypothesis(name: str, runs: int, seconds: int, seed: int, finds: Path) -> None:
    """Fuzz a target with inputs that hypothesis draws; exits with 1 at the first find."""
    from hypothesis import HealthCheck, Phase, given, settings
    from hypothesis import seed as seeded

    from tests.fuzz.readers import allowed
    from tests.fuzz.strategies import contents

    target, end, done = load(name), time.monotonic() + (seconds or 1e9), 0
    run = allowed(target.run)

    @seeded(seed)
    @settings(
        max_examples=runs,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(contents(target))
    def check(data: bytes) -> None:
        nonlocal done
        if time.monotonic() > end:
            return
        done += 1
        signal.alarm(SECONDS)
        try:
            run(data)
        except BaseException:
            path = finds / f"{name}-crash-{done}"
            path.write_bytes(data)
            print(f"kept as {path}")
            raise
        finally:
            signal.alarm(0)

    signal.signal(signal.SIGALRM, _too_slow)
    _limit_memory()
    try:
        check()
    except BaseException:
        traceback.print_exc()
        raise SystemExit(1) from None
    finally:
        print(f"executions: {done}")


def _too_slow(_signal: int, _frame: FrameType | None) -> None:
    raise TimeoutError(f"one input took more than {SECONDS} s")
