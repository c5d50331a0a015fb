"""What makes a release: packages, workflows, the recipe for conda, and one version for all."""

from __future__ import annotations

import configparser
import hashlib
import importlib.util
import json
import re
import shlex
import tarfile
import zipfile
from collections.abc import Iterator
from email.message import Message
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

import napari_espmedsam

ROOT = Path(__file__).resolve().parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
RECIPE = ROOT / "conda-recipe" / "meta.yaml"
CONDA_NAMES = {"dask": "dask-core", "opencv-python-headless": "py-opencv", "torch": "pytorch"}
VERSION = napari_espmedsam.__version__

each_workflow = pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)


def script(name: str) -> ModuleType:
    """Import ``scripts/NAME.py``."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def setup_cfg() -> configparser.ConfigParser:
    """Return the metadata and what the package needs."""
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


def load(path: Path) -> Any:
    """Return a workflow; YAML 1.1 reads its ``on`` as true."""
    return yaml.safe_load(path.read_text(encoding="utf-8").replace("\non:", "\n'on':"))


def steps_of(workflow: Any) -> Iterator[tuple[Any, Any]]:
    """Yield each step with its job."""
    for job in workflow["jobs"].values():
        for step in job["steps"]:
            yield job, step


@each_workflow
def test_what_workflows_run_is_there(path: Path) -> None:
    tox = configparser.ConfigParser(interpolation=None)
    tox.read(ROOT / "tox.ini", encoding="utf-8")
    known = {name.strip() for name in tox["tox"]["env_list"].split(",")} | {"py"}
    ran = 0
    for job, step in steps_of(load(path)):
        command = step.get("run", "")
        for given in re.findall(r"tox run -e (\$\{\{.*?\}\}|\S+)", command):
            names = job["strategy"]["matrix"]["env"] if "matrix.env" in given else [given]
            assert {each for name in names for each in name.split(",")} <= known
            ran += 1
        scripts = [word for word in shlex.split(command) if word.startswith("scripts/")]
        assert [name for name in scripts if not (ROOT / name).is_file()] == []
    assert ran


@each_workflow
def test_workflows_may_do_little(path: Path) -> None:
    workflow = load(path)
    assert workflow["permissions"] == {"contents": "read"}
    for job, step in steps_of(workflow):
        assert set(job.get("permissions", {})) <= {"id-token", "contents"}
        assert "secrets." not in json.dumps(step)
        if "uses" in step:
            assert re.search(r"@(v\d+|release/v\d+)$", step["uses"]), step["uses"]


def test_only_a_tag_publishes_and_without_a_token() -> None:
    workflow = load(ROOT / ".github" / "workflows" / "release.yml")
    assert workflow["on"]["push"] == {"tags": ["v*"]}
    job = workflow["jobs"]["publish"]
    assert job["needs"] == "build"
    assert job["if"] == "github.event_name == 'push'"
    assert job["permissions"] == {"id-token": "write"}
    assert job["environment"]["name"] == "pypi"
    assert workflow["jobs"]["github-release"]["needs"] == "publish"


def test_the_version_has_one_home() -> None:
    assert setup_cfg()["metadata"]["version"] == "attr: napari_espmedsam.__version__"
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == VERSION
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"\n## [{VERSION}] - " in changelog


def test_all_addresses_are_those_of_one_repository() -> None:
    metadata = setup_cfg()["metadata"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["repository-code"] == metadata["url"]
    urls = dict(line.split(" = ") for line in metadata["project_urls"].strip().splitlines())
    assert {"Documentation", "Source", "Bug Tracker", "Changelog"} <= set(urls)
    for url in urls.values():
        assert url.startswith(metadata["url"])
        page = url.removeprefix(metadata["url"]).removeprefix("/blob/main/")
        assert page in ("", "/issues") or (ROOT / page).is_file()


def test_the_conda_recipe_follows_setup_cfg() -> None:
    jinja2 = pytest.importorskip("jinja2")

    def load_file_regex(load_file: str, regex_pattern: str, from_recipe_dir: bool) -> Any:
        assert from_recipe_dir
        return re.search(regex_pattern, (RECIPE.parent / load_file).read_text(encoding="utf-8"))

    source = jinja2.Template(RECIPE.read_text(encoding="utf-8"))
    recipe = yaml.safe_load(source.render(load_file_regex=load_file_regex, PYTHON="python"))
    assert recipe["package"]["version"] == VERSION
    config = setup_cfg()
    lines = config["options"]["install_requires"].strip().splitlines()
    needs = [Requirement(line) for line in lines if not line.startswith("#")]
    expected = {f"{CONDA_NAMES.get(each.name, each.name)} {each.specifier}" for each in needs}
    expected.add(f"python {config['options']['python_requires']}")
    assert set(recipe["requirements"]["run"]) == expected
    assert recipe["about"]["license"] == config["metadata"]["license_expression"]
    assert [name for name in recipe["about"]["license_file"] if not (ROOT / name).is_file()] == []


DATED = "## [1.0.0] - 2030-01-31\n\n- a\n- b\n"


@pytest.mark.parametrize(
    "text",
    [
        f"# Log\n\n## [1.1.0] - unreleased\n\n- x\n\n{DATED}",
        f"{DATED}\n## [0.9.0] - 2029-01-31\n\n- z\n",
    ],
    ids=["last", "first"],
)
def test_notes_of_a_release(text: str) -> None:
    assert script("release_notes").notes(text, "1.0.0") == "- a\n- b\n"


def test_no_notes_without_a_section_or_a_date() -> None:
    notes = script("release_notes").notes
    with pytest.raises(SystemExit, match="no section"):
        notes(DATED, "1.0")
    with pytest.raises(SystemExit, match="unreleased"):
        notes("## [1.0.0] - unreleased\n\n- a\n", "1.0.0")


@pytest.fixture
def dist(tmp_path: Path) -> Path:
    """Make an sdist and a wheel whose weights are a few bytes."""
    content = b"some weights"
    digest = hashlib.sha256(content).hexdigest()
    index = [{"name": "tiny", "file": "tiny.safetensors", "sha256": digest}]
    metadata = Message()
    metadata["Version"] = "1.0.0"
    inside = {
        "napari_espmedsam/napari.yaml": b"",
        "napari_espmedsam/py.typed": b"",
        "napari_espmedsam/weights/index.json": json.dumps(index).encode(),
        "napari_espmedsam/weights/tiny.md": b"",
        "napari_espmedsam/weights/tiny.safetensors": content,
        "napari_espmedsam-1.0.0.dist-info/METADATA": bytes(metadata),
    }
    with zipfile.ZipFile(tmp_path / "a.whl", "w") as wheel:
        for name, data in inside.items():
            wheel.writestr(name, data)
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as sdist:
        for name in script("check_dist").IN_SDIST:
            sdist.add(__file__, f"napari_espmedsam-1.0.0/{name}")
    return tmp_path


def test_good_packages_pass(dist: Path) -> None:
    check = script("check_dist")
    assert check.check_wheel(dist / "a.whl", "v1.0.0") == []
    assert check.check_sdist(dist / "a.tar.gz") == []


def test_faults_of_packages_are_named(dist: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check = script("check_dist")
    assert check.check_wheel(dist / "a.whl", "v1.0.1") == [
        "the tag is v1.0.1, and the version is 1.0.0"
    ]
    with zipfile.ZipFile(dist / "a.whl") as wheel:
        inside = {name: wheel.read(name) for name in wheel.namelist()}
    del inside["napari_espmedsam/py.typed"]
    inside["napari_espmedsam/weights/tiny.safetensors"] = b"other weights"
    inside["tests/test_a.py"] = b""
    with zipfile.ZipFile(dist / "b.whl", "w") as wheel:
        for name, data in inside.items():
            wheel.writestr(name, data)
    assert check.check_wheel(dist / "b.whl", None) == [
        "the wheel holds tests/",
        "napari_espmedsam/weights/tiny.safetensors is not the file that index.json names",
        "the wheel lacks py.typed",
    ]
    monkeypatch.setattr(check, "IN_SDIST", ("COPYING",))
    assert check.check_sdist(dist / "a.tar.gz") == ["the sdist lacks COPYING"]
