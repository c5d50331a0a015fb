"""Settings that are declared once: a dataclass field with its help, its choices and its range.

The command line and the widgets build their options from :func:`describe`, and :func:`check`
tests the values, so that no form can allow what the library refuses.
"""

from __future__ import annotations

import dataclasses
import sys
import types
import typing
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, Literal

import numpy as np

from napari_espmedsam.errors import InputError

Kind = Literal["str", "int", "float", "bool", "ints"]
_KINDS: dict[Any, Kind] = {
    str: "str",
    int: "int",
    float: "float",
    bool: "bool",
    tuple[int, ...]: "ints",
}
_METADATA_KEY = "option"


@dataclass(frozen=True)
class OptionInfo:
    """What a form has to know about one setting.

    Attributes
    ----------
    name : str
        Field name, which is also the keyword argument.
    kind : {"str", "int", "float", "bool", "ints"}
        Type of the value; "ints" is a tuple of int.
    optional : bool
        Whether None is allowed; `auto` says what None means.
    default : object
        Value when nothing is given.
    help : str
        One or two sentences for a tooltip or ``--help``.
    label : str
        Short caption for a form.
    choices : tuple of str or None
        The only values allowed, in the order of display.
    minimum, maximum : float or None
        Range, both ends included.
    unit : str
        Unit of a number, "" when it has none.
    auto : str
        What None means, e.g. "the checkpoint's own"; "" when None is not allowed.
    advanced : bool
        Whether a form may hide it at first.
    flags : tuple of str
        Spellings for the command line; the field name with dashes when none was declared.
    """

    name: str
    kind: Kind
    optional: bool
    default: Any
    help: str
    label: str
    choices: tuple[str, ...] | None = None
    minimum: float | None = None
    maximum: float | None = None
    unit: str = ""
    auto: str = ""
    advanced: bool = False
    flags: tuple[str, ...] = ()


def option(default: Any, **declared: Any) -> Any:
    """Declare a dataclass field with what :class:`OptionInfo` holds beside name and type.

    Parameters
    ----------
    default : object
        Default value of the field.
    **declared
        `help` and `label` (needed), and any of `choices`, `minimum`, `maximum`, `unit`, `auto`,
        `advanced`, `flags`.
    """
    return dataclasses.field(default=default, metadata={_METADATA_KEY: declared})


def same_option(owner: type, name: str) -> Any:
    """Declare a field exactly as another dataclass has it: default, help, choices and range."""
    found = next(f for f in dataclasses.fields(owner) if f.name == name)
    return dataclasses.field(default=found.default, metadata=found.metadata)


def describe(owner: type) -> tuple[OptionInfo, ...]:
    """List the declared options of a dataclass in the order of its fields."""
    hints = typing.get_type_hints(owner)
    return tuple(
        _describe_field(field, hints[field.name])
        for field in dataclasses.fields(owner)
        if _METADATA_KEY in field.metadata
    )


def _describe_field(field: dataclasses.Field[Any], hint: Any) -> OptionInfo:
    members = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    optional = type(None) in members
    plain = next(member for member in members if member is not type(None))
    declared = {"flags": ("--" + field.name.replace("_", "-"),)} | field.metadata[_METADATA_KEY]
    return OptionInfo(
        name=field.name,
        kind=_KINDS[plain],
        optional=optional,
        default=field.default,
        **declared,
    )


def check(instance: Any) -> None:
    """Check every declared option of a dataclass instance against its declaration.

    Raises
    ------
    InputError
        If a value has the wrong type, is not among the choices or lies outside its range.
    """
    names = [info.name for info in describe(type(instance))]
    check_values(type(instance), **{name: getattr(instance, name) for name in names})


def check_values(owner: type, **values: Any) -> None:
    """Check single values against the fields of the same names of a dataclass.

    Raises
    ------
    InputError
        As :func:`check` does.
    """
    options = {info.name: info for info in describe(owner)}
    for name, value in values.items():
        check_value(options[name], value)


def check_value(info: OptionInfo, value: Any) -> None:
    """Check one value against its declaration; a live form calls this per keystroke.

    Raises
    ------
    InputError
        If the value has the wrong type, is not among the choices or lies outside its range.
    """
    if value is None and info.optional:
        return
    if not _has_kind(info.kind, value):
        empty = f", or None for {info.auto}" if info.optional else ""
        raise InputError(f"{info.name} is {value!r}. Give {_KIND_NAMES[info.kind]}{empty}.")
    if info.choices is not None and value not in info.choices:
        raise InputError(f"{info.name} is {value!r}. Choose one of: {', '.join(info.choices)}.")
    if info.kind in ("int", "float"):
        _check_range(info, value)


_KIND_NAMES: dict[Kind, str] = {
    "str": "a text",
    "int": "a whole number",
    "float": "a number",
    "bool": "True or False",
    "ints": "a tuple of whole numbers",
}


def _has_kind(kind: Kind, value: Any) -> bool:
    if isinstance(value, (bool, np.bool_)):
        return kind == "bool"
    if kind == "ints":
        return isinstance(value, tuple) and all(_has_kind("int", each) for each in value)
    expected: dict[str, type] = {"str": str, "int": Integral, "float": Real}
    return kind != "bool" and isinstance(value, expected[kind])


def _check_range(info: OptionInfo, value: float) -> None:
    low = -sys.float_info.max if info.minimum is None else info.minimum
    high = sys.float_info.max if info.maximum is None else info.maximum
    if low <= value <= high:
        return
    unit = f" {info.unit}" if info.unit else ""
    try:
        shown = f"{value:g}"
    except OverflowError:  # no float holds 10**400
        shown = "far too large:"
    raise InputError(
        f"{info.name} is {shown}{unit}, outside {low:g} to {high:g}{unit}. "
        "Give a value in that range."
    )
