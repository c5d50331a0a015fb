"""
Correct the prompt by code
==========================

The model proposes by itself where to look. Here the proposal is read, changed and decoded again:
what the tab *Prompts* does with a brush.

.. code-block:: bash

    python docs/examples/correct_prompts.py
"""

# %%
# Encoding takes the time, and is done once. The encoding holds the proposal: a grid of cells, each
# of them on or off, over the whole plane.

import matplotlib.pyplot as plt
import numpy as np
from skimage.measure import regionprops

from napari_espmedsam import PostProcess, Segmenter
from napari_espmedsam.inference.postprocess import to_labels
from napari_espmedsam.samples import nuclei_stack

plane = nuclei_stack(shape=(3, 160, 160))[1]
segmenter = Segmenter.from_checkpoint()
encoding = segmenter.encode(plane, "microscopy")
canvas = encoding.canvas
print(canvas.shape, "cells;", f"{encoding.prompt.mean():.0%} of them are on")

# %%
# What the model finds by its own prompt:

threshold = segmenter.header.threshold_for("microscopy")
post = PostProcess(output="split", threshold=threshold)
before = segmenter.decode(encoding)
labels = to_labels(before.array, post)
print(labels.max(), "nuclei")

# %%
# Edits are an array over the same cells: -1 leaves a cell as proposed, 0 switches it off, 1 on.
# ``cells_of`` and ``cell_at`` find the cells under a rectangle or a point of the image. Here the
# cells under the largest nucleus are switched off.

largest = max(regionprops(labels), key=lambda region: region.area)
top, left, bottom, right = largest.bbox
edits = canvas.empty()
edits[canvas.cells_of(top, left, bottom - 1, right - 1)] = 0

after = segmenter.decode(encoding, edits=edits)
corrected = to_labels(after.array, post)
inside = labels == largest.label
print(f"of its {inside.sum()} pixels {np.count_nonzero(corrected[inside])} are left")

# %%
# A prompt threshold changes the proposal as a whole: cells are on whose probability reaches it.
# Nothing is encoded again for that either.

strict = segmenter.decode(encoding, prompt_threshold=0.9)
print(f"{strict.prompt.mean():.0%} of the cells are on at 0.9")

# %%
# The plane, and what is found in it before and after the edit. The rectangle is that of the cells.

figure, axes = plt.subplots(1, 3, figsize=(9, 3.3), layout="constrained")
(height, width), (y, x) = canvas.image_affine()
rows, columns = np.nonzero(edits == 0)
corner = x + (columns.min() - 0.5) * width, y + (rows.min() - 0.5) * height
size = np.ptp(columns) + 1, np.ptp(rows) + 1
for axis, title, found in zip(
    axes, ("plane", "as proposed", "corrected"), (None, labels, corrected), strict=True
):
    axis.imshow(plane, cmap="gray", vmax=np.percentile(plane, 99.8))
    if found is not None:
        axis.contour(found > 0, levels=[0.5], colors="yellow", linewidths=1)
        axis.add_patch(
            plt.Rectangle(corner, size[0] * width, size[1] * height, fill=False, color="red")
        )
    axis.set_title(title)
    axis.axis("off")
plt.show()

# %%
# For whole stacks pass the edits by plane, ``segmenter.segment(stack, edits={3: edits}, ...)``. To
# keep them in a file and repeat them on the command line, see :doc:`prompt files </prompt-files>`.
