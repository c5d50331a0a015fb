"""Build a model without taking more memory than its weight file can fill."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.overrides import TorchFunctionMode

from napari_espmedsam.errors import CheckpointError, InputError
from napari_espmedsam.model.config import ModelConfig
from napari_espmedsam.model.registry import Model, build


class _OverBudgetError(Exception):
    """More parameters than allowed."""


class _Undrawn(TorchFunctionMode):
    """Leave out the drawing of first values, which takes as long as reading a file of weights."""

    draws = frozenset(
        {
            torch.Tensor.normal_,
            torch.Tensor.uniform_,
            nn.init.kaiming_uniform_,
            nn.init.normal_,
            nn.init.uniform_,
        }
    )

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> torch.Tensor:
        kwargs = kwargs or {}
        if func in self.draws:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


def build_within(config: ModelConfig, limit: int, source: str) -> Model:
    """Build a model of at most `limit` parameters; nothing beyond them is filled.

    Weights are not drawn: all of them are to be loaded, and hold until then what they hold.

    A parameter is counted when its module receives it, before it gets first values, so the
    memory of one that is too large is asked for but never used.

    Parameters
    ----------
    config : ESPMedSAMConfig or MedFastSAMConfig
        What to build.
    limit : int
        Values that the weight file holds.
    source : str
        Name of the file, for the message.

    Raises
    ------
    CheckpointError
        If the configuration asks for more, or for layers that cannot be.
    """
    try:
        with _counting(limit), _Undrawn():
            return build(config)
    except _OverBudgetError as error:
        raise CheckpointError(
            f"{source} describes a model of more than {limit:,} weights, and holds {limit:,}. It "
            "is damaged or was made to use up memory; get it from its source again."
        ) from error
    except InputError:
        raise
    except Exception as error:  # sizes that do not fit each other fail in many ways
        raise CheckpointError(
            f"{source} describes a model that cannot be built: {error!s:.200}. Get it from its "
            "source again."
        ) from error


@contextmanager
def _counting(limit: int) -> Iterator[None]:
    """Raise as soon as modules that this thread builds have more parameters than `limit`."""
    thread, left = threading.get_ident(), limit
    seen: dict[int, weakref.ref[nn.Parameter]] = {}  # a parameter with two names is stored once

    def give_back(key: int, size: int) -> None:  # a layer that another one replaced
        nonlocal left
        left += size
        seen.pop(key, None)

    def count(_module: nn.Module, _name: str, parameter: nn.Parameter | None) -> None:
        nonlocal left
        if threading.get_ident() != thread or parameter is None or id(parameter) in seen:
            return
        key, size = id(parameter), parameter.numel()
        seen[key] = weakref.ref(parameter, lambda _: give_back(key, size))
        left -= size
        if left < 0:
            raise _OverBudgetError

    handle = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        handle.remove()
