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
ENTRY = re.compile(r"^\.\. auto(\w+):: ([\w.]+)\n(?:   :members:([^\n]*)\n)?", re.MULTILINE)
IMPORT = re.compile(
    r"^ *from ((?:napari_espmedsam|training)[\w.]*) import ([\w, ]+)$", re.MULTILINE
)
CODE = sorted([*ROOT.glob("src/napari_espmedsam/**/*.py"), *ROOT.glob("training/**/*.py")])


def entries() -> dict[str, str | None]:
    """Return the names of the reference, and the members that it shows of each class."""
    found = {}
    for kind, name, members in ENTRY.findall(API):
        if kind != "data":
            found[name if "." in name else f"napari_espmedsam.{name}"] = members
    return found


def find(name: str) -> Any:
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


def functions(name: str, members: str) -> Iterator[tuple[str, Callable[..., Any]]]:
    """Yield functions and methods of an entry that have a docstring of their own in it."""
    thing = find(name)
    if inspect.isfunction(thing):
        yield name, thing
    for member in [each.strip() for each in members.split(",") if each.strip()]:
        attribute = inspect.getattr_static(thing, member)
        attribute = getattr(attribute, "__func__", attribute)
        if inspect.isfunction(attribute):
            yield f"{name}.{member}", attribute


def named(section: Any) -> set[str]:
    """Return the names that a section of a docstring describes."""
    return {
        name.strip().lstrip("*\\") for entry in section for name in entry.name.split(",") if name
    }


def taken(function: Callable[..., Any]) -> set[str]:
    return set(inspect.signature(function).parameters) - {"self", "cls"}


@pytest.mark.parametrize("name", list(entries()))
def test_docstrings_say_what_signatures_do(name: str) -> None:
    docscrape = pytest.importorskip("numpydoc.docscrape")
    for where, function in functions(name, entries()[name] or ""):
        doc = docscrape.FunctionDoc(function)
        assert doc["Summary"], where
        documented = named(doc["Parameters"])
        assert documented <= taken(function), where
        if documented or len(taken(function)) > 2:
            assert documented == taken(function), where
        returned = inspect.signature(function).return_annotation
        says = (
            doc["Returns"] or doc["Yields"] or re.match(r"Return|Yield|Say|Tell", doc["Summary"][0])
        )
        assert str(returned) == "None" or says, f"{where} says nothing of its {returned}"


@pytest.mark.parametrize("name", [n for n in entries() if inspect.isclass(find(n))])
def test_classes_say_what_they_hold(name: str) -> None:
    docscrape = pytest.importorskip("numpydoc.docscrape")
    thing = find(name)
    doc = docscrape.ClassDoc(thing, config={"show_class_members": False})
    assert doc["Summary"], name
    documented = named(doc["Parameters"]) | named(doc["Attributes"])
    if dataclasses.is_dataclass(thing):
        fields = {field.name for field in dataclasses.fields(thing)}
        # Fields of a form declare their help beside their default.
        helped = {f.name for f in dataclasses.fields(thing) if f.metadata}
        assert fields - helped <= documented, name
        assert documented <= fields | helped | set(dir(thing)), name


def test_what_documents_and_examples_import_is_in_the_reference() -> None:
    pages = [ROOT / "README.md", *ROOT.glob("docs/*.md"), *ROOT.glob("docs/examples/*.py")]
    used = {
        f"{module}.{name.strip()}"
        for page in pages
        for module, names in IMPORT.findall(page.read_text(encoding="utf-8"))
        for name in names.split(",")
    }
    assert len(used) > 20
    shown = {n if "." in n else f"napari_espmedsam.{n}" for _, n, _ in ENTRY.findall(API)}
    short = {name.rsplit(".", 1)[1] for name in shown}
    assert sorted(n for n in used - shown if n.rsplit(".", 1)[1] not in short) == []


@pytest.mark.parametrize("path", CODE, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_public_name_has_a_docstring(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree), "the module"
    assert list(without_docstring(tree)) == []


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
