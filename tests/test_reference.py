"""The Python reference: all that documents use is in it, and docstrings say what signatures do."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
API = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
ENTRY = re.compile(r"^\.\. auto(\w+):: ([\w.]+)\n(?:   :members:([^\n]*)\n)?", re.M)
IMPORT = re.compile(
    r"^ *from ((?:napari_espmedsam|training)[\w.]*) import ([\w, ]+)$", re.MULTILINE
)
CODE = sorted([*ROOT.glob("src/napari_espmedsam/**/*.py"), *ROOT.glob("training/**/*.py")])


def entries() -> dict[str, str | None]:
    """Return the names of the reference; for classes the members that it shows, "" for all."""
    found = (match.groups() for match in ENTRY.finditer(API))
    full = {name if "." in name else f"napari_espmedsam.{name}": m for kind, name, m in found}
    return {name: members for name, members in full.items() if callable(find(name))}


def find(name: str) -> Any:
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


def functions(name: str, members: str | None) -> Iterator[tuple[str, Callable[..., Any]]]:
    """Yield the functions and methods that an entry shows."""
    thing = find(name)
    if inspect.isfunction(thing):
        yield name, thing
        return
    everything = [each for each in vars(thing) if not each.startswith("_")]
    listed = [each.strip() for each in (members or "").split(",") if each.strip()]
    for member in [] if members is None else listed or everything:
        attribute = inspect.getattr_static(thing, member)
        attribute = getattr(attribute, "__func__", attribute)
        if inspect.isfunction(attribute):
            yield f"{name}.{member}", attribute


def named(section: Any) -> set[str]:
    """Return the names that a section of a docstring describes."""
    return {
        name.strip().lstrip("*\\") for entry in section for name in entry.name.split(",") if name
    }


def faults(where: str, function: Callable[..., Any]) -> Iterator[str]:
    from numpydoc.docscrape import FunctionDoc

    doc, signature = FunctionDoc(function), inspect.signature(function)
    taken, documented = set(signature.parameters) - {"self", "cls"}, named(doc["Parameters"])
    if taken != documented:
        yield f"{where} takes {sorted(taken)} and describes {sorted(documented)}"
    returns = str(signature.return_annotation) not in ("None", "NoReturn")
    if returns and not doc["Returns"] and not doc["Yields"]:
        yield f"{where} does not say what it returns"


def test_docstrings_say_what_signatures_do() -> None:
    pytest.importorskip("numpydoc")
    shown = [each for entry in entries().items() for each in functions(*entry)]
    assert len(shown) > 40
    assert [fault for each in shown for fault in faults(*each)] == []


def test_classes_say_what_they_hold() -> None:
    pytest.importorskip("numpydoc")
    from numpydoc.docscrape import ClassDoc

    classes = {name: find(name) for name in entries() if dataclasses.is_dataclass(find(name))}
    assert len(classes) > 8
    for name, thing in classes.items():
        doc = ClassDoc(thing, config={"show_class_members": False})
        documented = named(doc["Parameters"]) | named(doc["Attributes"])
        # Fields of a form declare their help beside their default.
        fields = {field.name for field in dataclasses.fields(thing) if not field.metadata}
        assert fields <= documented <= fields | set(dir(thing)), name


def test_what_documents_and_examples_import_is_in_the_reference() -> None:
    pages = [ROOT / "README.md", *ROOT.glob("docs/*.md"), *ROOT.glob("docs/examples/*.py")]
    used = {
        f"{module}.{name.strip()}"
        for page in pages
        for module, names in IMPORT.findall(page.read_text(encoding="utf-8"))
        for name in names.split(",")
    }
    assert len(used) > 20
    shown = {name.rsplit(".", 1)[-1] for _, name, _ in ENTRY.findall(API)}
    assert sorted(name for name in used if name.rsplit(".", 1)[1] not in shown) == []


def test_every_public_name_has_a_docstring() -> None:
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in CODE}
    assert [path for path, tree in trees.items() if not ast.get_docstring(tree)] == []
    assert [(path, name) for path, tree in trees.items() for name in without_docstring(tree)] == []


def without_docstring(node: ast.Module | ast.ClassDef) -> Iterator[str]:
    for each in node.body:
        if not isinstance(each, ast.ClassDef | ast.FunctionDef) or each.name.startswith("_"):
            continue
        other_half = {"overload", f"{each.name}.setter"}
        if not ast.get_docstring(each) and not other_half & set(
            map(ast.unparse, each.decorator_list)
        ):
            yield each.name
        if isinstance(each, ast.ClassDef):
            yield from without_docstring(each)
