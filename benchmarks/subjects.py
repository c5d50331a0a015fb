"""What ``compare.py`` measures: our forms, the authors' way, and networks that others use.

Peers have random weights, which cost the same. A subject is made in a process of its own, so what
it needs is imported there.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from engine import make_forms
from torch import Tensor, nn

Run = Callable[[], object]
Made = tuple[Run, int]  # one pass of the image, and the number of parameters


@dataclass(frozen=True)
class Subject:
    """A row of the table.

    Attributes
    ----------
    name : str
        Its first cell.
    computes : {"mask", "features"}
        What a pass gives: an encoder alone has features.
    make : callable
        Takes the image, (1, 3, S, S) float32 in [0, 1], and returns the pass and the number of
        parameters.
    ours : bool
        Whether this package computes it.
    needs : tuple of str
        Packages without which the row says "not installed"; of these any one will do.
    checkpoint : str
        Name of the bundled weights, whose model card tells the quality.
    """

    name: str
    computes: str
    make: Callable[[Tensor], Made]
    ours: bool = False
    needs: tuple[str, ...] = ()
    checkpoint: str = ""

    @property
    def installed(self) -> bool:
        """Whether one of the needed packages is there."""
        return not self.needs or any(find_spec(name) is not None for name in self.needs)


def _form(label: str) -> Callable[[Tensor], Made]:
    """A form of the published layout, by the start of its name in ``engine.py``."""

    def make(image: Tensor) -> Made:
        from napari_espmedsam.model.registry import create_model

        name = "esp_medsam_published"
        forms = make_forms(name, image, label)
        found = [run for key, run in forms.items() if key.lower().startswith(label.lower())]
        if not found:
            raise RuntimeError("the graph could not be made")
        return found[0], _count(create_model(name))

    return make


def _bundled(name: str) -> Callable[[Tensor], Made]:
    """The inference form of bundled weights."""

    def make(image: Tensor) -> Made:
        from napari_espmedsam.model.checkpoint import load_checkpoint
        from napari_espmedsam.model.engine import to_inference
        from napari_espmedsam.weights import resolve_checkpoint

        model = load_checkpoint(resolve_checkpoint(name)).model
        form: Any = to_inference(model.to(memory_format=torch.channels_last))
        modality, planes = torch.tensor([0]), _last(image)

        def run() -> Tensor:
            return form.decode_features(form.extract(planes, modality, image), modality)

        return run, _count(model)

    return make


def _unet(image: Tensor) -> Made:
    sys.path.append(str(Path(__file__).parents[1]))  # training is in the checkout, not installed
    from training.unet import build_unet

    model = build_unet(("image",)).eval().to(memory_format=torch.channels_last)
    modality, planes = torch.tensor([0]), _last(image)
    return lambda: model(planes, modality), _count(model)


def _tiny_vit(image: Tensor) -> Made:
    import timm

    return _features(timm.create_model("tiny_vit_5m_224", num_classes=0), image)


def _mobile_sam(image: Tensor) -> Made:
    """TinyViT-5M as MobileSAM has it: the last merge keeps the map's size, and SAM's neck."""
    import timm
    from timm.layers import LayerNorm2d

    trunk = timm.create_model("tiny_vit_5m_224", num_classes=0)
    trunk.stages[-1].downsample.conv2.conv.stride = (1, 1)
    neck = nn.Sequential(
        nn.Conv2d(trunk.num_features, 256, 1, bias=False),
        LayerNorm2d(256),
        nn.Conv2d(256, 256, 3, padding=1, bias=False),
        LayerNorm2d(256),
    )
    model = nn.Sequential(trunk, neck).eval().to(memory_format=torch.channels_last)
    planes = _last(image)
    return lambda: neck(trunk.forward_features(planes)), _count(model)


def _sam(image: Tensor) -> Made:
    import timm

    name = "samvit_base_patch16"
    return _features(timm.create_model(name, num_classes=0, img_size=image.shape[-1]), image)


def _features(model: Any, image: Tensor) -> Made:
    model = model.eval().to(memory_format=torch.channels_last)
    planes = _last(image)
    return lambda: model.forward_features(planes), _count(model)


def _cellpose(image: Tensor) -> Made:
    """Cellpose-SAM, which reads tiles of 256 px, on tiles side by side."""
    from cellpose.vit import CPSAM

    model = CPSAM().eval()
    tiles = image.unfold(2, 256, 256).unfold(3, 256, 256)  # (1, 3, rows, columns, 256, 256)
    tiles = tiles.permute(0, 2, 3, 1, 4, 5).reshape(-1, 3, 256, 256)
    return lambda: [model(tile) for tile in tiles.split(1)], _count(model)


def _stardist(image: Tensor) -> Made:
    import tensorflow
    from stardist.models import Config2D, StarDist2D

    tensorflow.config.threading.set_intra_op_parallelism_threads(torch.get_num_threads())
    model = StarDist2D(Config2D(n_channel_in=3, grid=(2, 2)), basedir=None).keras_model
    pixels = image.permute(0, 2, 3, 1).numpy()
    return lambda: model.predict(pixels, verbose=0), int(model.count_params())


def _last(image: Tensor) -> Tensor:
    return image.contiguous(memory_format=torch.channels_last)


def _count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


SUBJECTS = (
    Subject("ESP-MedSAM, authors' forward", "mask", _form("authors' way")),
    Subject("ESP-MedSAM, plain form", "mask", _form("plain"), ours=True),
    Subject("ESP-MedSAM, engine", "mask", _form("engine"), ours=True),
    Subject(
        "ESP-MedSAM, engine on ONNX Runtime", "mask", _form("onnx"), True, needs=("onnxruntime",)
    ),
    Subject("ESP-MedSAM, engine on OpenVINO", "mask", _form("openvino"), True, needs=("openvino",)),
    Subject(
        "ESP-MedSAM, fast: engine on OpenVINO in bfloat16",
        "mask",
        _form("fast, openvino"),
        True,
        needs=("openvino",),
    ),
    Subject("espmedsam, engine", "mask", _bundled("espmedsam"), ours=True, checkpoint="espmedsam"),
    Subject(
        "medfastsam, engine", "mask", _bundled("medfastsam"), ours=True, checkpoint="medfastsam"
    ),
    Subject("TinyViT-5M (timm)", "features", _tiny_vit, needs=("timm",)),
    Subject("MobileSAM's encoder (timm)", "features", _mobile_sam, needs=("timm",)),
    Subject("SAM's ViT-B encoder (timm)", "features", _sam, needs=("timm",)),
    Subject("U-Net (MONAI)", "mask", _unet, needs=("monai",)),
    Subject("Cellpose-SAM's network", "mask", _cellpose, needs=("cellpose",)),
    Subject("StarDist's network", "mask", _stardist, needs=("stardist",)),
)
