"""Functions of tensors that a CUDA card replays in one go, once they have been asked for often.

A pass of the models is hundreds of small kernels, and starting them one by one takes longer than a
card needs for one image. A CUDA graph starts all of them at once. (``torch.compile`` would load
Triton; see "No timm at run time" in docs/architecture.md.)
"""

from __future__ import annotations

import logging
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, Protocol

import torch
from torch import Tensor

from napari_espmedsam.inference.out_of_memory import is_out_of_memory

Tensors = tuple[Tensor, ...]
Function = Callable[..., Tensors]

WARM_UP = 2
"""Calls that run as they are: a graph pays from a few tiles of one shape on."""
MAX_GRAPHS = 8

_log = logging.getLogger(__name__)


class Replay(Protocol):
    """A function that was captured for inputs of certain shapes."""

    def __call__(self, inputs: Tensors) -> Tensors:
        """Compute new tensors from others of the same shapes."""


Capture = Callable[[Function, Tensors], Replay]


class CapturedGraph:
    """One function for inputs of fixed shapes. For one thread and one stream at a time.

    Parameters
    ----------
    function : callable
        From tensors to a tuple of tensors, without a step that waits for the device. It is called
        twice.
    inputs : tuple of Tensor
        As it is to be called; they are copied.
    pool : object
        Memory that several graphs use in turn, from ``torch.cuda.graph_pool_handle``.

    Raises
    ------
    RuntimeError
        If it cannot be captured, or the memory does not suffice.
    """

    def __init__(self, function: Function, inputs: Tensors, pool: Any) -> None:
        self._inputs = tuple(each.clone() for each in inputs)
        device = inputs[0].device
        stream = torch.cuda.Stream(device)
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(stream):
            function(*self._inputs)  # libraries set themselves up, which cannot be captured
        torch.cuda.current_stream(device).wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        # thread_local: another thread, napari's own say, may use the card meanwhile
        with torch.cuda.graph(
            self._graph, pool=pool, stream=stream, capture_error_mode="thread_local"
        ):
            self._outputs = function(*self._inputs)

    def __call__(self, inputs: Tensors) -> Tensors:
        """Compute new tensors from others of the same shapes."""
        for fixed, given in zip(self._inputs, inputs, strict=True):
            fixed.copy_(given)
        self._graph.replay()
        # The next replay, of this graph or of another in the pool, overwrites them.
        return tuple(each.clone() for each in self._outputs)


class GraphCache:
    """The graphs used last. For one thread at a time.

    Parameters
    ----------
    capture : callable, optional
        Makes a replay of a function and its inputs; :class:`CapturedGraph` when None.
    max_graphs : int
        How many to keep.
    """

    def __init__(self, capture: Capture | None = None, max_graphs: int = MAX_GRAPHS) -> None:
        self._capture = capture
        self._max_graphs = max_graphs
        self._graphs: OrderedDict[Hashable, Replay] = OrderedDict()
        self._calls: Counter[Hashable] = Counter()
        self._refused: set[Hashable] = set()
        self._pool: Any = None
        self._failed = False

    def __len__(self) -> int:
        """Count the graphs that are kept."""
        return len(self._graphs)

    def run(self, name: Hashable, function: Function, *inputs: Tensor) -> Tensors:
        """Call a function, by its graph where there is one.

        Parameters
        ----------
        name : hashable
            Together with shapes and types of the inputs it stands for the function: equal names
            mean that the same is computed.
        function : callable
            See :class:`CapturedGraph`.
        *inputs : Tensor
            Its arguments, on one CUDA device.
        """
        key = (name, *((tuple(each.shape), each.dtype) for each in inputs))
        replay = self._graphs.get(key)
        if replay is None:
            replay = self._make(key, function, inputs)
        if replay is None:
            return function(*inputs)
        self._graphs.move_to_end(key)
        return replay(inputs)

    def clear(self) -> None:
        """Forget all graphs, and the memory that they hold."""
        self._graphs.clear()
        self._calls.clear()
        self._pool = None

    def _make(self, key: Hashable, function: Function, inputs: Tensors) -> Replay | None:
        if self._failed or key in self._refused:
            return None
        self._calls[key] += 1
        if self._calls[key] <= WARM_UP:
            return None
        while len(self._graphs) >= self._max_graphs:
            self._graphs.popitem(last=False)
        full = False
        try:
            self._graphs[key] = self._captured(function, inputs)
        except RuntimeError as error:
            # What has failed once would fail again, after as much time.
            full, problem = is_out_of_memory(error), str(error).strip().split("\n")[0]
        else:
            return self._graphs[key]
        self.clear()
        if full:
            self._refused.add(key)
        else:
            self._failed = True
        what = "here: no memory for one" if full else f"on this device: {problem:.200}"
        _log.warning("No CUDA graph, which only costs speed, %s", what)
        return None

    def _captured(self, function: Function, inputs: Tensors) -> Replay:
        if self._capture is not None:
            return self._capture(function, inputs)
        if self._pool is None:
            self._pool = torch.cuda.graph_pool_handle()
        return CapturedGraph(function, inputs, self._pool)
