"""Open a graph with ONNX Runtime or OpenVINO. The one file that knows them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Run = Callable[[Floats], Floats]


def open_session(name: str, path: Path, threads: int, precision: str = "float32") -> Run:
    """Open a graph for computation on the CPU.

    Parameters
    ----------
    name : {"onnx", "openvino"}
        Backend.
    path : Path
        ONNX file with one input and one output.
    threads : int
        Threads to compute with.
    precision : {"float32", "bfloat16"}
        OpenVINO alone has bfloat16; see :func:`has_bfloat16`.

    Returns
    -------
    callable
        From an array, float32 and C-contiguous, to a new array.

    Raises
    ------
    Exception
        Of the library's own kinds, if it cannot read or use the graph.
    """
    if name == "onnx":
        return _open_onnx(path, threads)
    return _open_openvino(path, threads, {"float32": "f32", "bfloat16": "bf16"}[precision])


def has_bfloat16() -> bool:
    """Whether OpenVINO computes in bfloat16 here; elsewhere it takes float32 and is silent."""
    import openvino

    return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def _open_onnx(path: Path, threads: int) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    # Threads that wait by spinning would take the processor from napari's window.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda array: cast(Floats, session.run(None, {name: array})[0])


def _open_openvino(path: Path, threads: int, precision: str) -> Run:
    import openvino

    settings: dict[str, Any] = {
        "INFERENCE_PRECISION_HINT": precision,  # by default bf16, where the processor has it
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "ENABLE_CPU_PINNING": False,  # several workers would be pinned to the same cores
    }
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(path), "CPU", settings)
    return lambda array: np.array(compiled([array])[0])
