"""Write an encoder as an ONNX file: ``python -m ...export CONFIG JSON WEIGHTS BAG SIZE TARGET``."""

from __future__ import annotations

import sys

import torch
from safetensors.torch import load_file

from napari_espmedsam.model.config import ESPMedSAMConfig, MedFastSAMConfig
from napari_espmedsam.model.engine import to_inference
from napari_espmedsam.model.engine.graph import to_graph
from napari_espmedsam.model.registry import build

_CONFIGS = {each.__name__: each for each in (ESPMedSAMConfig, MedFastSAMConfig)}


def export(kind: str, config: str, weights: str, bag: int, size: int, target: str) -> None:
    """Write the graph of one modality and tile size.

    Parameters
    ----------
    kind : {"ESPMedSAMConfig", "MedFastSAMConfig"}
        What the configuration is.
    config : str
        It, as JSON.
    weights : str
        Safetensors file with the state of the encoder's inference form.
    bag : int
        Index of the modality.
    size : int
        Side of the tile in px.
    target : str
        ONNX file to write: input (1, 3, size, size), output the embedding, both float32.
    """
    encoder = to_inference(build(_CONFIGS[kind].model_validate_json(config))).encoder
    encoder.load_state_dict(load_file(weights))
    program = torch.onnx.export(
        to_graph(encoder, bag),
        (torch.zeros(1, 3, size, size),),
        input_names=["images"],
        output_names=["embedding"],
        dynamo=True,
        verbose=False,
    )
    if program is None:
        raise RuntimeError("torch.onnx.export returned nothing")
    program.save(target)


if __name__ == "__main__":
    _kind, _config, _weights, _bag, _size, _target = sys.argv[1:]
    export(_kind, _config, _weights, int(_bag), int(_size), _target)
