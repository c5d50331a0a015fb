"""
Segment a stack and measure it
==============================

From a Z stack to a table of nuclei in micrometres, with a figure to check it by.

.. code-block:: bash

    python docs/examples/segment_a_stack.py
"""

# %%
# The sample is made on the spot, together with the nuclei that were planted in it. For a file of
# your own take ``tifffile.imread`` or any other reader; what counts is an array and its axes.

import matplotlib.pyplot as plt
import numpy as np
from skimage.segmentation import mark_boundaries

from napari_espmedsam import PostProcess, Segmenter
from napari_espmedsam.inference.linking import link_stack
from napari_espmedsam.inference.measure import measure_objects
from napari_espmedsam.samples import STACK_SPACING, nuclei_stack

stack, planted = nuclei_stack(shape=(4, 144, 144), return_labels=True)
print(stack.shape, stack.dtype)

# %%
# The bundled model is loaded once. Each plane is segmented on its own, with one intensity range for
# the whole stack, and objects that touch are cut apart at their necks.

segmenter = Segmenter.from_checkpoint()
result = segmenter.segment(stack, "microscopy", axes="ZYX", post=PostProcess(output="split"))

# %%
# So far a nucleus has another number in each plane. Linking joins what overlaps from plane to
# plane.

volumes = link_stack(result.labels, "ZYX", "Z")
print(f"{result.labels.max()} objects in planes, {volumes.max()} volumes")

# %%
# Sizes of a step, with their unit, bring every column into micrometres.

spacing = {letter: (step, "micrometer") for letter, step in zip("ZYX", STACK_SPACING, strict=True)}
table = measure_objects(volumes, "ZYX", image=stack, spacing=spacing)
print(", ".join(table))
for volume, intensity in zip(table["volume_um3"][:5], table["mean_intensity"][:5], strict=True):
    print(f"{volume:7.1f} um3, mean intensity {intensity:6.0f}")

# %%
# Look before you trust: outlines of what was found (yellow) and of what is there (cyan). Yellow
# alone is the haze of nuclei that lie above or below the plane. A threshold above the model's own
# finds less of it.

middle = len(stack) // 2
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
grey = np.clip(stack[middle] / np.percentile(stack, 99.8), 0, 1)
found = mark_boundaries(grey, volumes[middle], color=(1, 1, 0))
left.imshow(mark_boundaries(found, planted[middle], color=(0, 1, 1)))
left.set_title(f"plane {middle}")
left.axis("off")
right.scatter(table["volume_um3"], table["mean_intensity"])
right.set(xlabel="volume (um3)", ylabel="mean intensity", xlim=(0, None), ylim=(0, None))
plt.show()

# %%
# The result says how it was made. Keep that with your numbers.

provenance = result.provenance
print({key: provenance[key] for key in ("model", "modality") if key in provenance})
