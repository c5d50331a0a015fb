"""
Evaluate a model on your own data
=================================

How good is a checkpoint on *your* images? Label a few, list them in a table, and measure, before
you trust it with the rest.

.. code-block:: bash

    python -m docs.examples.evaluate_own_data

From the root of a checkout with the extra ``train``. The same by commands:
``python -m training evaluate --checkpoint espmedsam --manifest my/manifest.csv --csv scores.csv``.
"""

# %%
# Six images with masks stand for yours. A mask is an image of the same size: 0 is background, the
# rest foreground. Images of one slide (patient, eye, video) belong to one group, which never lies
# on both sides of a division into training and test.

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import tifffile

from napari_espmedsam import Segmenter
from napari_espmedsam.samples import he_field
from training.comparison import evaluate_models
from training.evaluate import LabelledSet
from training.manifest import read_manifest
from training.tables import summarise

work = tempfile.TemporaryDirectory()
folder = Path(work.name)
lines = ["image,mask,modality,split,group"]
for seed in range(6):
    image, nuclei = he_field(seed, shape=(128, 128), return_labels=True)
    tifffile.imwrite(folder / f"field{seed}.tif", image, photometric="rgb")
    tifffile.imwrite(folder / f"mask{seed}.tif", nuclei.astype("uint16"))
    lines.append(f"field{seed}.tif,mask{seed}.tif,microscopy,test,slide{seed // 2 + 1}")
(folder / "manifest.csv").write_text("\n".join([*lines, ""]), encoding="utf-8")

# %%
# All wrong lines of a table are named at once. What is measured is what users get: the same
# encoding, the same threshold, the same clean-up.

own = LabelledSet.from_samples("my fields", read_manifest(folder / "manifest.csv"), "test")
scores = evaluate_models(
    {"espmedsam": Segmenter.from_checkpoint("espmedsam")},
    [own],
    csv=folder / "scores.csv",
    sheet=folder / "sheet.png",
    show=lambda line: None,
)
for score in scores:
    print(f"{score.name} ({score.group}): Dice {score.dice:.3f}, IoU {score.iou:.3f}")

# %%
# The summary counts groups too: intervals are drawn over them, since two images of one slide say
# less than two slides.

print("\n".join(summarise(scores)))

# %%
# The sheet shows best, median and worst images, so that a mean hides nothing. These fields are
# drawn by a program, and figures on them say nothing about tissue: measure on images of your own.

figure, axis = plt.subplots(figsize=(6, 8), layout="constrained")
axis.imshow(plt.imread(folder / "sheet.png"))
axis.axis("off")
plt.show()
work.cleanup()

# %%
# To choose a threshold, compare several on the split ``val``: ``--threshold 0.4 --threshold 0.5``.
# On test images that is refused, since it would make their score too good.
