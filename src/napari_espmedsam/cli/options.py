"""Command-line options made from the fields of `SegmentRequest`: declared once, for all forms."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any

import typer

from napari_espmedsam.errors import InputError
from napari_espmedsam.inference.options import OptionInfo
from napari_espmedsam.inference.request import SegmentRequest, request_options

# Shorter spellings beside the declared ones.
_MORE_FLAGS = {"checkpoint": ("--model", "-m")}
_ENDLESS = 1e5  # a limit that nobody meets says nothing in a help text
_NUMBERS: dict[str, type[int] | type[float]] = {"int": int, "float": float}


def with_request(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command one option per field of `SegmentRequest`.

    Parameters
    ----------
    command : callable
        Takes its own parameters and the keywords `request`, a validated `SegmentRequest`, and
        `given`, the names of its fields that were given on the command line.

    Returns
    -------
    callable
        Takes the command's own parameters and the fields of the request, with a signature that
        typer reads.
    """
    infos = request_options()
    signature = inspect.signature(command, eval_str=True)
    own = [p for p in signature.parameters.values() if p.name not in ("request", "given")]

    @functools.wraps(command)
    def wrapper(context: typer.Context, **arguments: Any) -> None:
        fields = {info.name: _value(info, arguments.pop(info.name)) for info in infos}
        sources = {name: context.get_parameter_source(name) for name in fields}
        given = {name for name, source in sources.items() if source and source.name != "DEFAULT"}
        command(**arguments, request=SegmentRequest(**fields).validate(), given=frozenset(given))

    keyword = inspect.Parameter.KEYWORD_ONLY
    parameters = [inspect.Parameter("context", keyword, annotation=typer.Context)]
    parameters += [p.replace(kind=keyword) for p in own]
    parameters += [_parameter(info) for info in infos]
    wrapper.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    wrapper.__annotations__ = {p.name: p.annotation for p in parameters}
    return wrapper


def _parameter(info: OptionInfo) -> inspect.Parameter:
    # Numbers arrive as text, so that a wrong one is refused in the words of the declaration.
    kind: Any = bool if info.kind == "bool" else str
    default = info.default if info.kind == "bool" or info.default is None else str(info.default)
    flags = [*info.flags, *_MORE_FLAGS.get(info.name, ())]
    if info.kind == "bool":
        flags = [f"{flag}/--no-{flag[2:]}" for flag in flags]
    declared = typer.Option(
        *flags,
        help=_help(info),
        metavar=_metavar(info),
        show_default=not info.optional,
        rich_help_panel="More options" if info.advanced else "Segmentation",
    )
    return inspect.Parameter(
        info.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=default,
        annotation=Annotated[kind | None if info.optional else kind, declared],
    )


def _help(info: OptionInfo) -> str:
    notes = []
    if info.minimum is not None and info.maximum is not None:
        unit = f" {info.unit}" if info.unit else ""
        limit = "or more" if info.maximum >= _ENDLESS else f"to {info.maximum:g}"
        notes.append(f"{info.minimum:g} {limit}{unit}")
    if info.auto:
        notes.append(f"default: {info.auto}")
    return f"{info.help} ({'; '.join(notes)})" if notes else info.help


def _metavar(info: OptionInfo) -> str | None:
    if info.kind == "bool":
        return None
    if info.choices is not None:
        return "|".join(info.choices)
    return {"str": "TEXT", "int": "N", "float": "NUMBER", "ints": "N,N-N"}[info.kind]


def _value(info: OptionInfo, given: Any) -> Any:
    """Convert text; what is no number stays text, and the request refuses it."""
    if given is None or info.kind in ("bool", "str"):
        return given
    if info.kind == "ints":
        return parse_planes(given)
    try:
        return _NUMBERS[info.kind](given)
    except ValueError:
        return given


def parse_planes(text: str) -> tuple[int, ...]:
    """Read a list of planes, for example ``0,4,7-9``.

    Raises
    ------
    InputError
        If a part is neither a number nor a range.
    """
    planes: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise InputError(
                f"planes is {text!r}, and {part.strip()!r} is no plane. Give numbers from 0 on "
                "and ranges, separated by commas: 0,4,7-9."
            )
        planes += range(int(first), int(last if dash else first) + 1)
    return tuple(planes)
