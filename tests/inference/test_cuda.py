"""A CUDA card finds what the CPU finds: in batches, by graphs, in half precision, when full."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from napari_espmedsam.errors import DeviceError
from napari_espmedsam.inference.computation import GraphedComputation, PlainComputation
from napari_espmedsam.inference.cuda_graph import WARM_UP
from napari_espmedsam.inference.runner import ModelRunner
from napari_espmedsam.inference.segmenter import Segmenter
from napari_espmedsam.inference.tile_feed import feed_for, fetch
from napari_espmedsam.inference.tile_run import Tile, segment_tiles
from napari_espmedsam.model.header import CheckpointHeader, InputSpec
from napari_espmedsam.model.registry import create_model

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

Array = np.ndarray[Any, np.dtype[Any]]
SPEC = InputSpec(geometry="tiled", size=128)
NAMES = ["esp_medsam_test", "med_fastsam_test"]


def make_model(name: str) -> Any:
    torch.manual_seed(0)
    model = create_model(name, modalities=("a", "b")).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # bags begin as zeros, which would hide mistakes
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def random_tiles(n: int) -> list[Tile]:
    rng = np.random.default_rng(0)
    return [Tile(rng.random((128, 128, 3), dtype=np.float32)) for _ in range(n)]


def logits(runner: ModelRunner, tiles: list[Tile], modality: int = 1) -> Array:
    return np.stack(list(segment_tiles(runner, tiles, modality, SPEC)))


def difference(found: Array, expected: Array) -> float:
    return float(np.sqrt(np.mean((found - expected) ** 2)) / expected.std())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("precision", "limit"), [("float32", 0.01), ("bfloat16", 0.2), ("float16", 0.1)]
)
def test_batches_on_the_card_say_what_the_cpu_says(name: str, precision: str, limit: float) -> None:
    if precision == "bfloat16" and torch.cuda.get_device_capability() < (8, 0):
        pytest.skip("this card has no bfloat16")
    model, tiles = make_model(name), random_tiles(9)
    card = ModelRunner(model, "cuda:0", precision)
    expected = logits(ModelRunner(model, "cpu"), tiles)
    for _ in range(WARM_UP + 2):
        assert difference(logits(card, tiles), expected) < limit


@pytest.mark.parametrize("name", NAMES)
def test_a_replayed_graph_says_what_the_model_says(name: str) -> None:
    runner = ModelRunner(make_model(name), "cuda:0")
    graphed: Any = runner._computation
    assert isinstance(graphed, GraphedComputation)
    plain = PlainComputation(runner._model, "cuda:0")
    with torch.inference_mode():
        for i in range(WARM_UP + 3):
            images = torch.rand(2, 3, 128, 128, device="cuda:0")
            images = images.contiguous(memory_format=torch.channels_last)
            modality = i % 2
            wanted = plain.extract(images.clone(), images, modality)
            found = graphed.extract(images.clone(), images, modality)
            torch.testing.assert_close(found.embedding, wanted.embedding, rtol=1e-3, atol=1e-3)
            torch.testing.assert_close(
                graphed.decode(wanted, modality, None),
                plain.decode(wanted, modality, None),
                rtol=1e-3,
                atol=1e-3,
            )
    for modality in (0, 1):
        logits(runner, random_tiles(20), modality)
    assert len(graphed._graphs) > 0
    assert not graphed._graphs._failed


def test_what_is_copied_beside_the_work_arrives_whole() -> None:
    feed, rng = feed_for("cuda:0"), np.random.default_rng(0)
    busy = torch.rand(2048, 2048, device="cuda:0")
    for _ in range(10):
        tiles = list(rng.random((4, 512, 512), dtype=np.float32))
        staged = feed.put(tiles)
        busy = busy @ busy / 2048
        np.testing.assert_array_equal(fetch(staged.take() * 1)(), np.stack(tiles))


def test_a_full_card_takes_smaller_batches_and_then_says_so() -> None:
    model, tiles = make_model("esp_medsam_test"), random_tiles(16)
    expected = logits(ModelRunner(model, "cpu"), tiles)
    runner = ModelRunner(model, "cuda:0")
    logits(runner, tiles[:1])
    runner.make_room()
    cost = runner.batches._cost[128, 128]
    _, total = torch.cuda.mem_get_info()
    kept = torch.cuda.memory_allocated()
    runner.batches._chosen[128, 128] = 16
    try:
        torch.cuda.set_per_process_memory_fraction((kept + 64 * 2**20 + 4 * cost) / total)
        runner.batches.ask_again = lambda: None  # type: ignore[method-assign]
        assert difference(logits(runner, tiles), expected) < 0.01
        torch.cuda.set_per_process_memory_fraction(kept / total)
        runner.make_room()
        huge = [Tile(np.zeros((1024, 1024), np.float32))]
        with pytest.raises(DeviceError, match=r"one tile \(1024 x 1024\)"):
            logits(runner, huge)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


def test_a_stack_gets_the_labels_of_the_cpu() -> None:
    model = make_model("esp_medsam_test")
    header = CheckpointHeader(
        name="tiny",
        architecture="esp_medsam_test",
        config=model.config.model_dump(mode="json"),
        modalities=("a", "b"),
        inputs=dict.fromkeys(("a", "b"), SPEC),
        licence="Apache-2.0",
    )
    image = np.random.default_rng(0).random((5, 300, 280), dtype=np.float32)
    labels = {
        device: Segmenter(model, header, device=device).segment(image, "b", axes="ZYX").labels > 0
        for device in ("cpu", "cuda")
    }
    assert float(np.mean(labels["cpu"] != labels["cuda"])) < 0.01
