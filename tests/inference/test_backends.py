"""Other libraries compute the encoder, or torch does where they cannot or say something else."""

from __future__ import annotations

import logging
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from napari_espmedsam.batch.fingerprint import hash_settings
from napari_espmedsam.errors import InputError, ModalityError
from napari_espmedsam.inference.backends import choice, encoder, graph_file
from napari_espmedsam.inference.backends.choice import Backend, choose_backend, lacking
from napari_espmedsam.inference.backends.encoder import GraphEncoder
from napari_espmedsam.inference.backends.graph_file import VARIABLE, GraphFile
from napari_espmedsam.inference.backends.session import has_bfloat16, open_session
from napari_espmedsam.inference.request import SegmentRequest
from napari_espmedsam.inference.segmenter import Segmenter
from napari_espmedsam.model.checkpoint import CheckpointHeader, InputSpec
from napari_espmedsam.model.engine import to_inference
from napari_espmedsam.model.registry import create_model

Array = np.ndarray[Any, np.dtype[Any]]
SIZE = 64
GRAPH = b"a graph"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep graphs of the tests apart from those of the user."""
    monkeypatch.setenv(VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


def make_model(name: str = "esp_medsam_test", seed: int = 0) -> Any:
    torch.manual_seed(seed)
    model = create_model(name, modalities=("a", "b")).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # bags begin as zeros, which would hide mistakes
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def make_segmenter(model: Any, backend: str = "torch", **options: Any) -> Segmenter:
    name = "esp_medsam_test" if model.prompt_kind == "grid" else "med_fastsam_test"
    spec = InputSpec(
        geometry="tiled", size=SIZE, scale=1.0, percentiles=(0.0, 100.0), mean=(0.5,) * 3,
        std=(0.25,) * 3,
    )  # fmt: skip
    header = CheckpointHeader(
        name="tiny",
        architecture=name,
        config={"modalities": model.modalities},
        modalities=model.modalities,
        inputs=dict.fromkeys(model.modalities, spec),
        licence="Apache-2.0",
        threshold=0.5,
    )
    return Segmenter(model, header, device="cpu", backend=backend, **options)


class Library:
    """Stands in for exporter and library: it computes what torch does, or what it is told to."""

    def __init__(self, model: Any) -> None:
        self.engine = to_inference(model)
        self.change: Callable[[Array], Array] = lambda array: array
        self.n_exports = 0
        self.n_runs = 0
        self.problem = ""
        self.name, self.precision = "onnx", "float32"

    def export(self, file: GraphFile, weights: Path, target: Path) -> None:
        self.n_exports += 1
        self.bag = file._bag
        target.write_bytes(GRAPH[: -1 if self.problem else None])
        if self.problem:
            raise RuntimeError(self.problem)

    def open(self, name: str, path: Path, threads: int, precision: str) -> Callable[[Array], Array]:
        assert (precision, threads) == (self.precision, torch.get_num_threads())
        assert name == (self.name if precision == "float32" else "openvino")
        if path.read_bytes() != GRAPH:
            raise RuntimeError("Protobuf parsing failed")
        return self.run

    def run(self, array: Array) -> Array:
        assert array.dtype == np.float32
        assert array.flags.c_contiguous
        self.n_runs += 1
        with torch.inference_mode(), torch.autocast("cpu", enabled=False):
            found = self.engine.encoder(torch.from_numpy(array), torch.tensor([self.bag]))
        return self.change(found.numpy())


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Library:
    found = Library(make_model())
    monkeypatch.setattr(choice, "find_spec", lambda name: object())
    monkeypatch.setattr(choice, "version", lambda name: "9.9")
    monkeypatch.setattr(choice, "has_bfloat16", lambda: True)
    monkeypatch.delenv(choice.VARIABLE, raising=False)
    monkeypatch.setattr(GraphFile, "_export", lambda *arguments: found.export(*arguments))
    monkeypatch.setattr(encoder, "open_session", found.open)
    return found


@pytest.fixture
def image(rng: np.random.Generator) -> Array:
    return rng.random((80, 100), dtype=np.float32)  # six tiles


def logits(segmenter: Segmenter, image: Array, modality: str = "b") -> Array:
    return segmenter.decode(segmenter.encode(image, modality)).logits


@pytest.mark.parametrize(
    ("wish", "device", "precision", "message"),
    [
        ("tensorrt", "cpu", "float32", r"'tensorrt'.*torch, auto, onnx, openvino"),
        ("onnx", "cuda:0", "float32", r"'onnx'.*on cuda:0 in float32.*device cpu"),
        ("onnx", "cpu", "bfloat16", r"in bfloat16.*precision float32, or backend torch"),
        ("openvino", "mps", "bfloat16", r"on mps in bfloat16.*precision float32 or bfloat16"),
    ],
)
def test_what_cannot_be_is_refused(
    wish: str, device: str, precision: str, message: str, library: Library
) -> None:
    with pytest.raises(InputError, match=message):
        choose_backend(wish, device, precision)


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "find_spec", lambda name: None if name == "onnxscript" else name)
    for wish in ("onnx", "openvino"):
        with pytest.raises(InputError, match=rf"not installed: onnxscript\..*espmedsam\[{wish}\]"):
            choose_backend(wish, "cpu", "float32")
    assert choose_backend("auto", "cpu", "float32") == Backend("torch", "torch")


def test_auto_takes_the_fastest_that_can_compute(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert choose_backend("auto", "cpu", "float32") == Backend("openvino", "openvino 9.9")
    assert choose_backend("auto", "cuda:0", "float32").name == "torch"
    assert choose_backend("auto", "cpu", "bfloat16").name == "openvino"
    monkeypatch.setattr(choice, "find_spec", lambda name: None if name == "openvino" else name)
    assert choose_backend("auto", "cpu", "float32") == Backend("onnx", "onnxruntime 9.9")
    assert choose_backend("auto", "cpu", "bfloat16").name == "torch"


def test_a_variable_says_what_auto_may_take(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(choice.VARIABLE, "onnx")
    assert choose_backend("auto", "cpu", "float32").name == "onnx"
    assert choose_backend("auto", "cpu", "bfloat16").name == "torch"
    assert choose_backend("auto", "cuda:0", "float32").name == "torch"
    assert choose_backend("openvino", "cpu", "float32").name == "openvino"
    monkeypatch.setenv(choice.VARIABLE, "torch")
    assert choose_backend("auto", "cpu", "float32").name == "torch"
    monkeypatch.setenv(choice.VARIABLE, "fast")
    with pytest.raises(InputError, match=r"BACKEND is 'fast'.*torch, auto, onnx, openvino"):
        choose_backend("auto", "cpu", "float32")


def test_bfloat16_needs_a_processor_that_has_it(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choice, "has_bfloat16", lambda: False)
    with pytest.raises(InputError, match=r"no bfloat16.*Choose precision float32"):
        choose_backend("openvino", "cpu", "bfloat16")
    assert choose_backend("auto", "cpu", "bfloat16").name == "torch"
    assert choose_backend("auto", "cpu", "float32").name == "openvino"


def test_the_fastest_that_is_installed_is_the_default(library: Library, image: Array) -> None:
    library.name = "openvino"
    assert SegmentRequest().backend == "auto"
    found = make_segmenter(make_model(), SegmentRequest().backend).segment(image, "a")
    assert found.provenance["backend"] == "openvino 9.9"


def test_torch_makes_no_graph(library: Library, image: Array, cache: Path) -> None:
    found = make_segmenter(make_model(), "torch").segment(image, "a")
    assert found.provenance["backend"] == "torch"
    assert not cache.exists()


def test_tiles_of_the_trained_size_are_computed_by_the_library(
    library: Library, image: Array, cache: Path
) -> None:
    segmenter = make_segmenter(make_model(), "onnx")
    found = segmenter.segment(image, "b")
    assert found.provenance["backend"] == "onnxruntime 9.9"
    assert (library.n_exports, library.n_runs) == (1, 1 + 6)  # the check, and six tiles
    assert library.bag == 1
    np.testing.assert_array_equal(
        logits(segmenter, image), logits(make_segmenter(make_model()), image)
    )
    before = library.n_runs
    small = segmenter.segment(image[:30], "b")  # lower than a tile
    assert small.provenance["backend"] == "torch"
    assert library.n_runs == before
    (file,) = cache.iterdir()
    assert file.read_bytes() == GRAPH


def test_the_graph_is_found_again_and_checked_again(library: Library, image: Array) -> None:
    for n_runs in (7, 14):
        make_segmenter(make_model(), "onnx").segment(image, "a")
        assert (library.n_exports, library.n_runs) == (1, n_runs)


def test_each_modality_has_its_graph(library: Library, image: Array, cache: Path) -> None:
    segmenter = make_segmenter(make_model(), "onnx")
    plain = make_segmenter(make_model())
    for modality in ("a", "b"):
        expected = logits(plain, image, modality)
        np.testing.assert_array_equal(logits(segmenter, image, modality), expected)
    assert len(list(cache.iterdir())) == 2


def test_what_the_first_tile_waits_for_is_said_before(library: Library, image: Array) -> None:
    segmenter = make_segmenter(make_model(), "onnx")
    assert segmenter.awaits("a") == "onnxruntime 9.9"
    segmenter.segment(image, "a")
    assert (segmenter.awaits("a"), segmenter.awaits("b")) == ("", "onnxruntime 9.9")
    assert make_segmenter(make_model(), "torch").awaits("a") == ""


def test_several_images_at_once_are_left_to_torch(library: Library) -> None:
    engine = to_inference(make_model())
    graphs = GraphEncoder(engine.encoder, engine.config, Backend("onnx"), {SIZE})
    images, modality = torch.rand(2, 3, SIZE, SIZE), torch.tensor([0, 1])
    with torch.inference_mode():
        found = graphs(images.clone(), modality)
        torch.testing.assert_close(found, engine.encoder(images, modality), rtol=0, atol=0)
    assert library.n_runs == 0


@pytest.mark.parametrize(
    "change",
    [
        lambda array: array + 2e-4 * abs(array).max(),
        lambda array: np.full_like(array, np.nan),
        lambda array: array[..., :-1],
        lambda array: array.astype(np.float16),
    ],
    ids=["off", "nan", "shape", "dtype"],
)
def test_wrong_numbers_are_not_used(
    change: Callable[[Array], Array],
    library: Library,
    image: Array,
    caplog: pytest.LogCaptureFixture,
) -> None:
    library.change = change
    segmenter = make_segmenter(make_model(), "onnx")
    expected = make_segmenter(make_model()).segment(image, "b")
    with caplog.at_level(logging.WARNING):
        found = segmenter.segment(image, "b")
    assert found.provenance["backend"] == "torch"
    np.testing.assert_array_equal(found.labels, expected.labels)
    np.testing.assert_array_equal(
        logits(segmenter, image), logits(make_segmenter(make_model()), image)
    )
    (message,) = caplog.messages  # said once
    assert "torch computes them" in message
    assert library.n_exports == 1


def test_rounding_is_no_difference(library: Library, image: Array) -> None:
    library.change = lambda array: array + np.float32(5e-5) * abs(array).max()
    found = make_segmenter(make_model(), "onnx").segment(image, "b")
    assert found.provenance["backend"] == "onnxruntime 9.9"


@pytest.mark.parametrize(("off", "accepted"), [(0.03, True), (0.1, False), (np.nan, False)])
def test_bfloat16_may_differ_by_rounding(
    off: float, accepted: bool, library: Library, image: Array, caplog: pytest.LogCaptureFixture
) -> None:
    library.precision = "bfloat16"
    library.change = lambda array: array + np.float32(off) * array.std()
    segmenter = make_segmenter(make_model(), "openvino", precision="bfloat16")
    with caplog.at_level(logging.WARNING):
        found = segmenter.segment(image, "b").provenance
    assert found["precision"] == "bfloat16"
    assert found["backend"] == ("openvino 9.9" if accepted else "torch")
    assert ("torch computes them in bfloat16" in caplog.text) is not accepted


def test_a_damaged_file_is_made_again(library: Library, image: Array, cache: Path) -> None:
    make_segmenter(make_model(), "onnx").segment(image, "b")
    (file,) = cache.iterdir()
    file.write_bytes(GRAPH[:3])
    found = make_segmenter(make_model(), "onnx").segment(image, "b")
    assert found.provenance["backend"] == "onnxruntime 9.9"
    assert library.n_exports == 2
    assert file.read_bytes() == GRAPH


def test_a_failed_export_leaves_nothing_behind(
    library: Library, image: Array, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    library.problem = "no such operator"
    found = make_segmenter(make_model(), "onnx").segment(image, "b")
    assert found.provenance["backend"] == "torch"
    assert "no such operator" in caplog.text
    assert list(cache.iterdir()) == []


def test_a_cache_that_cannot_be_written_costs_only_speed(
    library: Library, image: Array, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache.write_text("a file in its place")
    found = make_segmenter(make_model(), "onnx").segment(image, "b")
    assert found.provenance["backend"] == "torch"
    assert cache.name in caplog.text


def test_the_name_of_a_file_follows_all_that_it_depends_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def path(seed: int = 0, bag: int = 0, size: int = SIZE) -> Path:
        engine = to_inference(make_model(seed=seed))
        return GraphFile(engine.encoder, engine.config, bag, size).path

    names = [path(), path(seed=1), path(bag=1), path(size=96)]
    assert path() == names[0]
    monkeypatch.setattr(graph_file, "__version__", "99")
    assert len({*names, path()}) == 5


def test_old_files_make_room(library: Library, cache: Path) -> None:
    cache.mkdir()
    for i in range(graph_file.MAX_FILES):
        old = cache / f"encoder-{i}.onnx"
        old.write_bytes(GRAPH)
        os.utime(old, (i, i))
    (cache / "other.txt").write_text("not ours")
    engine = to_inference(make_model())
    file = GraphFile(engine.encoder, engine.config, 0, SIZE)
    file.write()
    left = {path.name for path in cache.iterdir()}
    assert {file.path.name, "other.txt", "encoder-1.onnx"} <= left
    assert "encoder-0.onnx" not in left
    assert len(left) == graph_file.MAX_FILES + 1


def test_a_result_of_another_backend_is_finished_as_one_of_another_device_is() -> None:
    assert hash_settings(SegmentRequest(backend="onnx")) == hash_settings(SegmentRequest())


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Path]]:
    """Export the bag "b" of a tiny model, once."""
    made: dict[str, Path] = {}

    def get(name: str) -> Path:
        if name not in made:
            engine: Any = to_inference(make_model(name))
            file = GraphFile(engine.encoder, engine.config, int(name == "esp_medsam_test"), SIZE)
            file.path = tmp_path_factory.mktemp("graphs") / file.path.name
            file.write()
            made[name] = file.path
        return made[name]

    return get


@pytest.fixture(params=["onnx", "openvino"])
def installed(request: pytest.FixtureRequest) -> str:
    if missing := lacking(request.param):
        pytest.skip(f"the extra {request.param} is not installed, it lacks {', '.join(missing)}")
    return str(request.param)


def copy_instead(monkeypatch: pytest.MonkeyPatch, source: Path) -> list[Path]:
    """Let the export be a copy; return the list of what is exported."""
    made: list[Path] = []

    def export(self: nn.Module, weights: Path, target: Path) -> None:
        made.append(Path(shutil.copy(source, target)))

    monkeypatch.setattr(GraphFile, "_export", export)
    return made


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    ["esp_medsam_test", pytest.param("med_fastsam_test", marks=pytest.mark.long)],
)
def test_the_libraries_say_the_same_as_torch(
    name: str,
    installed: str,
    exported: Callable[[str], Path],
    image: Array,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    copy_instead(monkeypatch, exported(name))
    model = make_model(name)
    segmenter, plain = make_segmenter(model, installed), make_segmenter(model)
    found = segmenter.segment(image, "b")
    assert found.provenance["backend"].startswith({"onnx": "onnxruntime "}.get(installed, "openv"))
    expected = logits(plain, image)
    assert float(expected.std()) > 1e-3
    np.testing.assert_allclose(logits(segmenter, image), expected, rtol=0, atol=2e-5)
    np.testing.assert_array_equal(logits(segmenter, image), logits(segmenter, image))


@pytest.mark.slow
def test_the_number_of_threads_changes_no_bit(
    installed: str, exported: Callable[[str], Path], rng: np.random.Generator
) -> None:
    tile = rng.standard_normal((1, 3, SIZE, SIZE), dtype=np.float32)
    one, two = (open_session(installed, exported("esp_medsam_test"), n)(tile) for n in (1, 2))
    np.testing.assert_array_equal(one, two)


@pytest.mark.slow
def test_openvino_in_bfloat16_is_close_to_torch(
    exported: Callable[[str], Path], image: Array, monkeypatch: pytest.MonkeyPatch
) -> None:
    if missing := lacking("openvino"):
        pytest.skip(f"openvino is not installed, it lacks {', '.join(missing)}")
    if not has_bfloat16():
        pytest.skip("this processor has no bfloat16")
    copy_instead(monkeypatch, exported("esp_medsam_test"))
    model = make_model()
    segmenter = make_segmenter(model, "openvino", precision="bfloat16")
    found = segmenter.segment(image, "b")
    assert found.provenance["backend"].startswith("openvino ")
    expected = make_segmenter(model).segment(image, "b").labels > 0
    assert np.mean((found.labels > 0) != expected) < 0.02


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["cut", "weights"])
def test_real_damage_is_mended(
    damage: str,
    installed: str,
    exported: Callable[[str], Path],
    image: Array,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = exported("esp_medsam_test")
    content = source.read_bytes()
    cache.mkdir()
    middle = len(content) // 2
    engine: Any = to_inference(make_model())
    path = GraphFile(engine.encoder, engine.config, 1, SIZE).path
    weight = engine.encoder.trunk.stages[1].blocks[0].local_conv.conv.bias.numpy().tobytes()
    assert content.count(weight) == 1
    wrong = content.replace(weight, np.full(len(weight) // 4, 3, np.float32).tobytes())
    path.write_bytes({"cut": content[:middle], "weights": wrong}[damage])
    made = copy_instead(monkeypatch, source)
    found = make_segmenter(make_model(), installed).segment(image, "b")
    assert found.provenance["backend"] != "torch"
    assert len(made) == 1
    assert path.read_bytes() == content


def test_a_library_of_another_distribution_is_known_too(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(choice, "version", unknown)  # onnxruntime-gpu is onnxruntime, too
    monkeypatch.setitem(sys.modules, "onnxruntime", SimpleNamespace(__version__="1.2-gpu"))
    assert choose_backend("onnx", "cpu", "float32").label == "onnxruntime 1.2-gpu"


@pytest.mark.parametrize("folder", ["~nobody-of-that-name/graphs", "n" * 300])
def test_a_cache_folder_that_cannot_be_costs_speed_alone(
    folder: str,
    library: Library,
    image: Array,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv(VARIABLE, folder)
    with caplog.at_level(logging.WARNING):
        found = make_segmenter(make_model(), "onnx").segment(image, "b")
    assert found.provenance["backend"] == "torch"
    assert "torch computes them" in caplog.text


def test_what_computes_a_modality_that_is_none() -> None:
    with pytest.raises(ModalityError, match="'c'"):
        make_segmenter(make_model()).computed_by("c", (SIZE, SIZE))
