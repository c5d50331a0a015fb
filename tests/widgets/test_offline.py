"""Nothing leaves the machine: the dock opens and segments with every socket closed."""

from __future__ import annotations

import socket
from typing import Any

import numpy as np
import pytest

from napari_espmedsam.inference.segmenter import Segmenter
from napari_espmedsam.weights import list_checkpoints

PLUGIN = "napari-espmedsam"
FOR_SOCKETS = ("connect", "connect_ex", "sendto")
FOR_MODULE = ("getaddrinfo", "gethostbyname", "create_connection")


@pytest.fixture
def sealed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let no socket reach anything; return what was tried."""
    tried: list[str] = []

    def refuse(name: str) -> Any:
        def call(*arguments: Any, **options: Any) -> None:
            tried.append(f"{name}{arguments}")
            raise OSError("the network is closed")

        return call

    for name in FOR_SOCKETS:
        monkeypatch.setattr(socket.socket, name, refuse(name))
    for name in FOR_MODULE:
        monkeypatch.setattr(socket, name, refuse(name))
    return tried


def test_the_dock_and_a_run_need_no_network(sealed: list[str], make_napari_viewer: Any) -> None:
    viewer = make_napari_viewer()
    viewer.add_image(np.zeros((64, 64), np.uint8))
    _holder, dock = viewer.window.add_plugin_dock_widget(PLUGIN, "Segment")
    assert dock.segment is not None
    assert sealed == []


@pytest.mark.parametrize("name", [entry.name for entry in list_checkpoints()])
def test_bundled_weights_need_no_network(sealed: list[str], name: str) -> None:
    plane = np.random.default_rng(0).integers(0, 255, (64, 64)).astype(np.uint8)
    segmenter = Segmenter.from_checkpoint(name, device="cpu")
    segmenter.segment(plane, "microscopy")
    assert sealed == []


def test_a_socket_would_be_seen(sealed: list[str]) -> None:
    with pytest.raises(OSError, match="closed"):
        socket.create_connection(("example.org", 80))
    with socket.socket() as one, pytest.raises(OSError, match="closed"):
        one.connect(("127.0.0.1", 9))
    assert len(sealed) == 2
