"""Graphs are captured once shapes come back, say what the model says, and may fail."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from napari_espmedsam.errors import InputError
from napari_espmedsam.inference.computation import GraphedComputation, PlainComputation
from napari_espmedsam.inference.cuda_graph import WARM_UP, CapturedGraph, GraphCache
from napari_espmedsam.model.engine import to_inference
from napari_espmedsam.model.engine.one_modality import decode_one, encode_one, own_prompt
from napari_espmedsam.model.registry import create_model

SIZE = 96


class Replayed:
    """Stands in for a captured graph: it only knows the places of its inputs."""

    captured: list[tuple[int, ...]] = []  # noqa: RUF012

    def __init__(self, function: Any, inputs: tuple[Tensor, ...]) -> None:
        self.captured.append(tuple(inputs[0].shape))
        self.function, self.inputs = function, tuple(each.clone() for each in inputs)

    def __call__(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        for fixed, given in zip(self.inputs, inputs, strict=True):
            fixed.copy_(given)
        found: tuple[Tensor, ...] = self.function(*self.inputs)
        return found


@pytest.fixture(autouse=True)
def captured(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    monkeypatch.setattr(Replayed, "captured", [])
    return Replayed.captured


@pytest.fixture(autouse=True)
def _inference() -> Iterator[None]:
    with torch.inference_mode():
        yield


def engine(name: str = "esp_medsam_test", **config: Any) -> Any:
    torch.manual_seed(0)
    model = create_model(name, modalities=("a", "b"), **config).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # bags begin as zeros, which would hide mistakes
            parameter.add_(0.1 * torch.randn_like(parameter))
    return to_inference(model)


def double(x: Tensor) -> tuple[Tensor]:
    return (2 * x,)


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("esp_medsam_test", {}),
        ("esp_medsam_test", {"queries": "joint", "mask_mlp": "shared"}),
        ("esp_medsam_test", {"soft_prompt": True}),
        ("esp_medsam_test", {"prompt": "none"}),
        ("esp_medsam_test", {"bags": False}),
        ("med_fastsam_test", {}),
        ("med_fastsam_test", {"prompt": "none"}),
    ],
)
def test_graphs_say_what_the_model_says(name: str, config: dict[str, Any]) -> None:
    model = engine(name, **config)
    plain, graphed = PlainComputation(model, "cpu"), GraphedComputation(model, Replayed)
    for modality in (0, 1, 0, 1, 0, 1, 0, 1):
        images = torch.rand(2, 3, SIZE, SIZE)
        expected = plain.extract(images.clone(), images, modality)
        found = graphed.extract(images.clone(), images, modality)
        for a, b in zip(tree_leaves(found), tree_leaves(expected), strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-5)
        for prompt in (None, (torch.rand_like(expected.prompt) > 0.5).float()):
            if prompt is not None and config.get("prompt") == "none":
                continue
            wanted = plain.decode(expected, modality, prompt)
            assert float(wanted.std()) > 1e-4
            logits = graphed.decode(expected, modality, prompt)
            torch.testing.assert_close(logits, wanted, rtol=0, atol=1e-4)
    assert len(Replayed.captured) == 4  # two halves for two modalities


def test_a_prompt_is_refused_where_there_is_none() -> None:
    graphed = GraphedComputation(engine(prompt="none"), Replayed)
    images = torch.rand(1, 3, SIZE, SIZE)
    features = graphed.extract(images.clone(), images, 0)
    with pytest.raises(InputError, match="built without prompts"):
        graphed.decode(features, 0, torch.ones_like(features.prompt))


class OnOneDevice(TorchDispatchMode):
    """Fails where a tensor of the host takes part: a GPU would wait, and a capture end."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for each in tree_leaves((args, kwargs, result)):
            if isinstance(each, Tensor):
                assert each.device.type == "meta", f"{func} on {each.device}"
        return result


@pytest.mark.parametrize("name", ["esp_medsam_test", "med_fastsam_test"])
def test_nothing_waits_for_the_device(name: str) -> None:
    model = engine(name).to("meta")
    images = torch.empty(2, 3, SIZE, SIZE, device="meta")
    with OnOneDevice():
        encoded = encode_one(model, images, 1)
        prompt = torch.empty(2, 1, SIZE, SIZE, device="meta")
        if name == "esp_medsam_test":
            from napari_espmedsam.model.output import Features

            prompt = own_prompt(model, Features(*encoded))
            encoded = encoded[:1]
        (logits,) = decode_one(model, 1, prompt, *encoded)
    assert logits.shape == (2, 1, SIZE // 4, SIZE // 4)


def test_the_first_calls_run_as_they_are(captured: list[Any]) -> None:
    graphs, x = GraphCache(Replayed), torch.ones(3)
    for n in range(1, WARM_UP + 3):
        (found,) = graphs.run("double", double, x)
        torch.testing.assert_close(found, 2 * x)
        assert len(captured) == int(n > WARM_UP)


def test_each_name_shape_and_type_has_its_graph(captured: list[Any]) -> None:
    graphs = GraphCache(Replayed)
    inputs = [torch.ones(3), torch.ones(4), torch.ones(3).double(), torch.ones(3, 4)]
    for _ in range(WARM_UP + 1):
        for x in (*inputs, torch.ones(4, 3).T):  # the last: only its layout is another
            graphs.run("double", double, x)
        graphs.run("other", double, inputs[0])
    assert len(captured) == len(graphs) == 5


def test_the_graphs_used_last_are_kept(captured: list[Any]) -> None:
    graphs = GraphCache(Replayed, max_graphs=2)

    def run(length: int, times: int = 1) -> None:
        for _ in range(times):
            graphs.run("double", double, torch.ones(length))

    run(1, WARM_UP + 1)
    run(2, WARM_UP + 1)
    run(1)
    run(3, WARM_UP + 1)  # in place of 2
    assert captured == [(1,), (2,), (3,)]
    run(1)
    assert captured == [(1,), (2,), (3,)]
    run(2)
    assert captured == [(1,), (2,), (3,), (2,)]
    assert len(graphs) == 2


def test_a_failed_capture_costs_only_speed(caplog: pytest.LogCaptureFixture) -> None:
    tries = []

    def refuse(function: Any, inputs: Any) -> Any:
        tries.append(inputs)
        raise RuntimeError("operation not permitted when stream is capturing\nand more")

    graphs = GraphCache(refuse)
    with caplog.at_level(logging.WARNING):
        for x in (torch.ones(3), torch.ones(4)):
            for _ in range(2 * WARM_UP):
                (found,) = graphs.run("double", double, x)
                torch.testing.assert_close(found, 2 * x)
    assert len(tries) == 1
    (message,) = caplog.messages
    assert "only costs speed" in message
    assert "not permitted" in message


def test_a_graph_without_memory_leaves_the_others_a_chance(captured: list[Any]) -> None:
    def capture(function: Any, inputs: Any) -> Any:
        if len(inputs[0]) > 3:
            raise torch.cuda.OutOfMemoryError("full")
        return Replayed(function, inputs)

    graphs = GraphCache(capture)
    for x in (torch.ones(2), torch.ones(4), torch.ones(3)):
        for _ in range(2 * WARM_UP):
            torch.testing.assert_close(graphs.run("double", double, x)[0], 2 * x)
    assert captured == [(2,), (3,)]
    assert len(graphs) == 1  # what was there has made room


def test_released_graphs_are_made_anew(captured: list[Any]) -> None:
    computation, images = GraphedComputation(engine(), Replayed), torch.rand(1, 3, SIZE, SIZE)
    for _ in range(WARM_UP + 2):
        computation.extract(images.clone(), images, 0)
    computation.release()
    for _ in range(WARM_UP + 2):
        computation.extract(images.clone(), images, 0)
    assert len(captured) == 2


class FakeStream:
    def wait_stream(self, other: Any) -> None:
        pass


def test_outputs_of_a_captured_graph_are_the_callers_own(monkeypatch: pytest.MonkeyPatch) -> None:
    place = torch.zeros(2)  # memory of the graph, overwritten by each replay
    modes = []

    def function(x: Tensor) -> tuple[Tensor]:
        return (place.copy_(2 * x),)

    class FakeGraph:
        def replay(self) -> None:
            function(*graph._inputs)

    @contextmanager
    def block(*_: Any, **options: Any) -> Iterator[None]:
        modes.append(options.get("capture_error_mode"))
        yield

    monkeypatch.setattr(torch.cuda, "Stream", lambda device: FakeStream())
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: FakeStream())
    monkeypatch.setattr(torch.cuda, "stream", block)
    monkeypatch.setattr(torch.cuda, "graph", block)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", FakeGraph)
    graph = CapturedGraph(function, (torch.ones(2),), pool=None)
    assert modes == [None, "thread_local"]
    given = torch.tensor([3.0, 4.0])
    (first,) = graph((given,))
    (second,) = graph((torch.tensor([5.0, 6.0]),))
    assert first.tolist() == [6, 8]
    assert second.tolist() == [10, 12]
    assert given.tolist() == [3, 4]
