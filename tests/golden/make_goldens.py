"""Copy the part of the recorded goldens that the tests compare with into this folder.

The goldens were recorded by running the authors' published code; see the docstring of
``tests/model/conftest.py`` for the rule that regenerates their weights and inputs. What is kept
here is thinned out further, so that the repository stays small.

    ESPMEDSAM_DATA=/path/to/shared python tests/golden/make_goldens.py
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
SOURCE = Path(os.environ.get("ESPMEDSAM_DATA", HERE.parents[2] / "shared")) / "goldens"

Index = tuple[slice, ...]
EVERY = slice(None)
BY2, BY4 = slice(None, None, 2), slice(None, None, 4)

# What is kept of each recorded array: the recorded stride times this one.
WANTED: dict[str, dict[str, Index]] = {
    "espmedsam": {
        "image_embeddings_strided": (BY4,),
        "patch_map": (EVERY,),
        **{f"lowres_d{k}_strided": (BY2, BY2) for k in range(6)},
        **{f"logits_d{k}_strided": (BY4, BY4) for k in range(6)},
    },
    "espmedsam_256": {
        "image_embeddings_strided": (EVERY,),
        "patch_map": (EVERY,),
        "patch_embed_strided": (EVERY,),
        **{f"layer{n}_strided": (EVERY, EVERY, BY4) for n in range(4)},
        "layer1_block0_strided": (EVERY, EVERY, BY4),
        "layer1_block0_attn_strided": (BY4, EVERY, BY2),
        "transformer_queries": (EVERY,),
        "transformer_keys_strided": (EVERY,),
        "upscaled_strided": (BY2,),
        "dense_prompt_strided": (EVERY,),
        **{f"lowres_d{k}_strided": (EVERY,) for k in range(6)},
        **{f"logits_d{k}_strided": (EVERY,) for k in range(6)},
    },
    "medfastsam_official": {
        "embedding_strided": (BY4,),
        "r_quarter_strided": (BY4,),
        "r_eighth_strided": (BY4,),
        "dense_strided": (BY4,),
        "otsu_mask256_strided": (EVERY,),
        "lowres_strided": (BY2, BY2),
        "logits_strided": (BY2, BY2),
    },
    "mobilesam_tinyvit_256": {
        "image_embeddings_strided": (BY2,),
        "pre_neck_strided": (BY2,),
    },
    "litemedsam": {
        f"{name}_{what}_strided": (BY4,)
        for name in ("rule", "disc")
        for what in ("embedding", "pre_neck")
    },
}


def thin_arrays(name: str) -> None:
    """Write ``NAME.npz`` with the wanted part of each array."""
    with np.load(SOURCE / f"{name}.npz") as recorded:
        kept = {key: recorded[key][index] for key, index in WANTED[name].items()}
    np.savez_compressed(HERE / f"{name}.npz", **{k: v.astype(np.float32) for k, v in kept.items()})


def official_entries() -> None:
    """Write the authors' state_dict entries: name and shape, and timm's name for the trunk."""
    entries: dict[str, object] = {}
    for label, name in (("esp_medsam", "espmedsam"), ("med_fastsam", "medfastsam_official")):
        entries[label] = json.loads((SOURCE / f"{name}.json").read_text())["shapes"]
    trunk = json.loads((SOURCE / "mobilesam_tinyvit_256.json").read_text())
    entries["mobilesam"] = trunk["shapes"]
    entries["mobilesam_timm_keys"] = trunk["timm_keys"]
    text = json.dumps(entries, separators=(",", ":")).replace("},", "},\n")
    (HERE / "official_entries.json").write_text(text + "\n")


if __name__ == "__main__":
    for golden in WANTED:
        thin_arrays(golden)
    official_entries()
