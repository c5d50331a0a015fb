"""Damage to valid content: bytes anywhere, and values of JSON by its structure."""

from __future__ import annotations

import copy
import json
import random
from typing import Any

_NUMBERS = (0, 1, -1, 2, 3, 255, 256, 65535, 2**31 - 1, 2**31, 2**32, 2**53, 2**63, 2**64, 10**400)
_VALUES: tuple[Any, ...] = (
    None,
    True,
    False,
    *_NUMBERS,
    0.5,
    -0.0,
    1e-320,
    1e308,
    float("inf"),
    float("nan"),
    "",
    "a",
    "\0",
    "\ud800",
    "../../../etc/passwd",
    "x" * 3000,
    [],
    {},
    [[]],
    [0, 0],
    {"a": {}},
)
_JOINT = b"\n--8<--\n"


def split_parts(data: bytes) -> list[bytes]:
    """Split content that stands for several files."""
    return data.split(_JOINT)


def join_parts(*parts: bytes) -> bytes:
    """Join the contents of several files, as `split_parts` takes them apart."""
    return _JOINT.join(parts)


def mutate(data: bytes, seed: int) -> bytes:
    """Change content in a few places; JSON by its structure in two of three cases.

    The same `data` and `seed` give the same result.
    """
    rng = random.Random(seed)
    parts = split_parts(data)
    at = rng.randrange(len(parts))
    changed = _mutate_json(parts[at], rng) if rng.random() < 0.67 else None
    parts[at] = _mutate_bytes(parts[at], rng) if changed is None else changed
    return join_parts(*parts)


def _mutate_bytes(data: bytes, rng: random.Random) -> bytes:
    content = bytearray(data)
    for _ in range(rng.randint(1, 6)):
        at = rng.randrange(len(content) + 1)
        kind = rng.randrange(6)
        if kind == 0:
            content[at : at + 1] = bytes([rng.randrange(256)])
        elif kind == 1:
            content[at:at] = rng.randbytes(rng.randint(1, 8))
        elif kind == 2:
            del content[at : at + rng.randint(1, 64)]
        elif kind == 3:
            content[at : at + 4] = rng.choice(_NUMBERS[:-1]).to_bytes(9, "little", signed=True)[:4]
        elif kind == 4:
            start = rng.randrange(len(content) + 1)
            content[at:at] = content[start : start + rng.randint(1, 64)]
        else:
            del content[at:]
    return bytes(content)


def _mutate_json(data: bytes, rng: random.Random) -> bytes | None:
    try:
        content = json.loads(data)
    except (ValueError, RecursionError):
        return None
    holder = [content]  # so that the outermost value can be replaced as well
    for _ in range(rng.randint(1, 3)):
        _change(holder, rng)
    try:
        return json.dumps(holder[0]).encode("utf-8", "surrogatepass")
    except (ValueError, RecursionError):
        return None


def _change(holder: list[Any], rng: random.Random) -> None:
    places = list(_places(holder))
    container, key = rng.choice(places)
    kind = rng.randrange(8)
    other, other_key = rng.choice(places)
    if kind == 0 and container is not holder:
        del container[key]
    elif kind == 1 and isinstance(container, dict):
        container[rng.choice(["", "path", "format", f"{key}x"])] = copy.deepcopy(
            rng.choice(_VALUES)
        )
    elif kind == 2 and isinstance(container, list):
        container.extend(copy.deepcopy(container[:3]))
    elif kind == 3:
        container[key] = copy.deepcopy(other[other_key])
    elif kind == 4 and isinstance(container[key], int | float):
        container[key] = container[key] * rng.choice((-1, 2, 3, 1000)) + rng.choice((-1, 0, 1))
    else:
        container[key] = copy.deepcopy(rng.choice(_VALUES))


def _places(content: Any) -> Any:
    """Yield (container, key) of every value below, without recursion."""
    waiting = [content]
    while waiting:
        current = waiting.pop()
        keys = list(current) if isinstance(current, dict) else range(len(current))
        for key in keys:
            yield current, key
            if isinstance(current[key], dict | list):
                waiting.append(current[key])
