"""
Distil a model at small scale
=============================

The step that makes a small encoder see as a large one does (ESP-MedSAM, eq. 2, the common term),
small enough for any laptop: the parts are the real ones, the sizes are not.

.. code-block:: bash

    python -m docs.examples.distil_small

From the root of a checkout with the extra ``train``.
"""

# %%
# Distillation needs images, but no labels. Planted tissue stands for the many natural images of the
# paper.

import csv
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import tifffile
import torch

from napari_espmedsam.model.config import TinyViTConfig
from napari_espmedsam.model.registry import create_model
from napari_espmedsam.model.tiny_vit import TinyViT
from napari_espmedsam.samples import he_field
from training.distill import DistillConfig, distill
from training.distilled import load_distilled

work = tempfile.TemporaryDirectory()
folder = Path(work.name)
(folder / "images").mkdir()
for seed in range(8):
    tifffile.imwrite(folder / "images" / f"{seed}.tif", he_field(seed, shape=(96, 96)))

# %%
# The teacher has the shape of LiteMedSAM, only narrower, and random weights: enough to be imitated.
# A real recipe leaves ``weights``, ``trunk`` and ``size`` out and gets LiteMedSAM itself, which
# comes with the extra; or it names SAM.

torch.manual_seed(0)
narrow = TinyViTConfig(
    widths=(8, 8, 8, 16), depths=(1, 1, 1, 1), heads=(1, 1, 1, 2), out_channels=16, patch_stride=1
)
state = {f"image_encoder.{name}": value for name, value in TinyViT(narrow).state_dict().items()}
torch.save(state, folder / "teacher.pth")

# %%
# A recipe is checked as a whole before anything slow begins; an unknown key is an error. In a file
# it is TOML, and ``python -m training distill --config recipe.toml --out runs/mine`` runs it.

recipe = DistillConfig.model_validate(
    {
        "name": "small",
        "architecture": "esp_medsam_test",
        "term": "common",
        "teacher": {"weights": folder / "teacher.pth", "trunk": narrow, "size": 64},
        "natural": {
            "folders": [folder / "images"],
            "input": {"geometry": "whole", "size": 64, "rescale": "dtype"},
            "validate_every": 4,
        },
        "cache": folder / "embeddings",
        "warm_start": "none",
        "size": 64,
        "batch_size": 4,
        "steps": 20,
        "validate_every": 2,
        "ema_decay": 0.5,
        "precision": "float32",
        "device": "cpu",
        "threads": 1,
        "optimiser": {"lr": 1e-2, "warmup_steps": 0},
    }
)
best = distill(recipe, folder / "run")

# %%
# The teacher is asked once for each image and view, and its answers are kept. The curve is the
# error on images that were held back.

with (folder / "run" / "curve.csv").open(newline="", encoding="utf-8") as file:
    curve = [(int(row["step"]), float(row["mse_natural"])) for row in csv.DictReader(file)]

figure, axis = plt.subplots(figsize=(6, 3.5), layout="constrained")
axis.plot(*zip(*curve, strict=True), marker="o")
axis.set(xlabel="step", ylabel="error on images held back", ylim=(0, None))
plt.show()

# %%
# What was learnt becomes the encoder of a model. In a recipe of ``finetune`` the line ``distilled =
# "runs/mine"`` does that.

model = create_model("esp_medsam_test", modalities=("microscopy",))
print(load_distilled(model, folder / "run"))
work.cleanup()

# %%
# The whole chain, with a real teacher, labels, export and evaluation, is one command: ``python -m
# training chain``; see :doc:`training </training>`.
