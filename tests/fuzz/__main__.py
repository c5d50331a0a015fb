"""Fuzz what reads files: ``python -m tests.fuzz all --runs 100000``, from a clone.

With atheris (``pip install -e ".[fuzz]"``) the fuzzer follows which code an input reaches; without
it, hypothesis draws the damage blindly. Each target has a process of its own, with 10 s for each
input and 2 GB of memory on top of what its imports take. An input that breaks a target is kept in
``fuzz-finds/``; ``--repeat FILE`` runs it again.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import subprocess
import sys
import time
from pathlib import Path

SECONDS = 10
MEGABYTES = 2048
FINDS = Path("fuzz-finds")


def _arguments() -> argparse.Namespace:
    from tests.fuzz.names import NAMES

    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="+", choices=["all", *NAMES], metavar="TARGET")
    parser.add_argument("--runs", type=int, default=100_000, help="inputs for each target")
    parser.add_argument("--seconds", type=int, default=0, help="stop a target after this time")
    parser.add_argument("--engine", choices=["atheris", "hypothesis"], default=_engine())
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--repeat", type=Path, help="run this one input")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    found = parser.parse_args()
    found.targets = list(NAMES) if "all" in found.targets else found.targets
    return found


def _engine() -> str:
    return "atheris" if importlib.util.find_spec("atheris") else "hypothesis"


def _run_all(asked: argparse.Namespace) -> int:
    FINDS.mkdir(exist_ok=True)
    print(f"{'target':<20} {'engine':<11} {'executions':>10} {'seconds':>8}  result", flush=True)
    failed = 0
    for name in asked.targets:
        command = [sys.executable, "-m", "tests.fuzz", name, "--child", "--engine", asked.engine]
        command += ["--runs", str(asked.runs), "--seconds", str(asked.seconds)]
        start = time.monotonic()
        with (FINDS / f"{name}.log").open("w+", errors="replace") as log:
            code = subprocess.run(
                [*command, "--seed", str(asked.seed)], stdout=log, stderr=subprocess.STDOUT
            ).returncode
            log.seek(0)
            text = log.read()
        counts = re.findall(r"(?:number_of_executed_units:|executions:) *(\d+)", text)
        failed += bool(code)
        result = f"FOUND, see {log.name}" if code else "nothing found"
        spent = time.monotonic() - start
        print(
            f"{name:<20} {asked.engine:<11} {counts[-1] if counts else '?':>10} {spent:>8.0f}"
            f"  {result}",
            flush=True,
        )
    return min(failed, 1)


def main() -> int:
    """Run targets each in a process, or be such a process."""
    asked = _arguments()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if not asked.child and asked.repeat is None:
        return _run_all(asked)
    from tests.fuzz import engines

    name = asked.targets[0]
    if asked.repeat is not None:
        engines.load(name).run(asked.repeat.read_bytes())
    elif asked.engine == "atheris":
        engines.run_atheris(name, asked.runs, asked.seconds, asked.seed, FINDS)
    else:
        engines.run_hypothesis(name, asked.runs, asked.seconds, asked.seed, FINDS)
    return 0


if __name__ == "__main__":
    sys.exit(main())
