"""How much faster and smaller the inference form of a model is, and that it says the same.

    python benchmarks/engine.py
    python benchmarks/engine.py --size 512 --rounds 20 --threads 2
    python benchmarks/engine.py --architecture med_fastsam

The forms of one model take turns in one process: the authors' way (``published_forward.py``, for
``esp_medsam_published``), our plain form, the form that ``to_inference`` makes of it, and the last
with its encoder computed by each backend that is installed; "fast" is approximate: bfloat16, the
decoder as well. Other jobs of the machine slow all of
them down, so only ratios within a round are compared. Memory is the highest resident size during
the first pass over that before it, in a process of its own, which Linux alone can tell; a backend
has opened its graph before that.
"""

from __future__ import annotations

import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Annotated, Any

import torch
import typer
from published_forward import published_forward
from torch import Tensor, nn
from turns import extra_memory

from napari_espmedsam.inference.backends.choice import can_compute, choose_backend
from napari_espmedsam.inference.backends.encoder import GraphEncoder
from napari_espmedsam.model.engine import to_inference
from napari_espmedsam.model.registry import create_model

GRAPHS = (("onnx", "float32"), ("openvino", "float32"), ("openvino", "bfloat16"))
Form = Callable[[], tuple[Tensor, Tensor]]  # embedding, mask logits


def main(
    architecture: Annotated[str, typer.Option(help="Model.")] = "esp_medsam_published",
    size: Annotated[int, typer.Option(min=64, help="Side of the image in px: 32 x n.")] = 1024,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds to measure.")] = 10,
    threads: Annotated[int, typer.Option(min=0, help="Threads of torch; 0: its default.")] = 0,
    cpu_time: Annotated[
        bool, typer.Option(help="Count the processor's time: steadier on a busy machine.")
    ] = False,
) -> None:
    """Alternate the forms of a model and print a Markdown table."""
    if threads:
        torch.set_num_threads(threads)
    with torch.inference_mode():
        forms = make_forms(architecture, torch.rand(1, 3, size, size))
        memory = {name: in_own_process(name, architecture, size) for name in forms}
        outputs = {name: form() for name, form in forms.items()}
        seconds = alternate(forms, rounds, time.process_time if cpu_time else time.perf_counter)
    typer.echo(
        f"{architecture}, {size} px, {rounds} rounds, {torch.get_num_threads()} threads, load "
        f"{os.getloadavg()[0]:.1f}, torch {torch.__version__}\n\n"
        "| Form | Seconds, median | Times as fast as the first: median (range) "
        "| Largest difference from it | Extra memory, MB |\n|---|---:|---:|---:|---:|"
    )
    first = next(iter(forms))
    for name in forms:
        ratios = [a / b for a, b in zip(seconds[first], seconds[name], strict=True)]
        typer.echo(
            f"| {name} | {statistics.median(seconds[name]):.3f} | {statistics.median(ratios):.2f} "
            f"({min(ratios):.2f} to {max(ratios):.2f}) "
            f"| {difference(outputs[first], outputs[name]):.1e} | {memory[name]} |"
        )


def make_forms(architecture: str, images: Tensor, only: str = "") -> dict[str, Form]:
    """All forms of one model with random weights, or one of them, each ready to be called."""
    torch.manual_seed(0)
    model = create_model(architecture)
    spread(model)
    modality = torch.tensor([0])

    def run(form: nn.Module, pixels: Tensor, fast: bool = False) -> tuple[Tensor, Tensor]:
        with torch.autocast("cpu", torch.bfloat16, enabled=fast, cache_enabled=False):
            features = form.extract(pixels, modality, images)  # type: ignore[operator]
            masks = form.decode_features(features, modality)  # type: ignore[operator]
        return features.embedding, masks

    last = images.contiguous(memory_format=torch.channels_last)
    forms: dict[str, Form] = {}
    if architecture == "esp_medsam_published":
        theirs = create_model(architecture).eval()
        theirs.load_state_dict(model.state_dict())
        row = model.config.rows[0]

        def published() -> tuple[Tensor, Tensor]:
            embedding, masks = published_forward(theirs, images, 0)
            return embedding, masks[:, row : row + 1]

        forms["authors' way"] = published
    plain = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    forms["plain"] = lambda: run(plain, last)
    engine = to_inference(plain)
    forms["engine"] = lambda: run(engine, last)
    if only in forms:
        return forms
    for label, backed in backends(plain, last.shape[-1]).items():
        fast = label.startswith("fast")
        forms[label] = lambda form=backed, fast=fast: run(form, last, fast)  # type: ignore[misc]
    return forms


def backends(model: Any, size: int) -> dict[str, nn.Module]:
    """Inference forms whose encoder is a graph, ready, by precision, library and version."""
    found: dict[str, nn.Module] = {}
    for name, precision in GRAPHS:
        if not can_compute(name, precision):
            continue
        backend, form = choose_backend(name, "cpu", precision), to_inference(model)
        form.encoder = GraphEncoder(form.encoder, form.config, backend, {size}, precision)
        if form.encoder.graph(0, (size, size)) is not None:  # it says why in the log
            found[f"{'fast, ' * (precision != 'float32')}{backend.label}"] = form
    return found


def spread(model: nn.Module) -> None:
    """Leave no weight at its start: zeros and ones would hide mistakes."""
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if name.endswith("running_var"):
                tensor.uniform_(0.5, 1)
            elif tensor.is_floating_point() and tensor.ndim < 2:
                tensor.add_(0.1 * torch.randn_like(tensor))
            elif tensor.is_floating_point() and not tensor.any():
                tensor.normal_(std=0.02)
    model.eval().requires_grad_(False)


def alternate(
    forms: dict[str, Form], rounds: int, clock: Callable[[], float]
) -> dict[str, list[float]]:
    """Seconds of each form in each round."""
    seconds: dict[str, list[float]] = {name: [] for name in forms}
    for _ in range(rounds):
        for name, form in forms.items():
            start = clock()
            form()
            seconds[name].append(clock() - start)
    return seconds


def difference(first: tuple[Tensor, ...], second: tuple[Tensor, ...]) -> float:
    """Largest absolute difference of two results."""
    return max(float((a - b).abs().max()) for a, b in zip(first, second, strict=True))


def in_own_process(name: str, architecture: str, size: int) -> str:
    """Extra memory of one form; "" where it cannot be known."""
    if sys.platform != "linux":
        return ""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        work = pool.submit(form_memory, name, architecture, size, torch.get_num_threads())
        return f"{work.result():.0f}"


def form_memory(name: str, architecture: str, size: int, threads: int) -> float | None:
    """Extra memory of the first pass of a form, in MB; see :func:`turns.extra_memory`."""
    torch.set_num_threads(threads)
    with torch.inference_mode():
        form = make_forms(architecture, torch.rand(1, 3, size, size), name)[name]
        return extra_memory(form)


if __name__ == "__main__":
    typer.run(main)
