"""
Segment a folder of images
==========================

One job for a folder: labels and tables for every image, a report, and no image done twice.

.. code-block:: bash

    python docs/examples/batch_a_folder.py

The same on the command line is ``napari-espmedsam batch``, in napari the tab *Batch*.
"""

# %%
# A folder with three images and one file that is damaged, as folders are.

import csv
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import tifffile
from skimage.color import label2rgb

from napari_espmedsam import segment_folder
from napari_espmedsam.samples import nuclei_stack

work = tempfile.TemporaryDirectory()
plates, results = Path(work.name, "plates"), Path(work.name, "results")
plates.mkdir()
for seed, name in enumerate(("a1", "a2", "b1")):
    tifffile.imwrite(plates / f"{name}.tif", nuclei_stack(seed, shape=(3, 128, 128))[1])
(plates / "b2.tif").write_bytes(b"II*\0 and then the disk was full")

# %%
# Settings are the fields of ``SegmentRequest``, which are also the options of the command line.
# What is wrong with one image does not stop the others.

settings = {"modality": "microscopy", "output": "split", "min_size": 20}
job = segment_folder(plates, results, formats=("tiff", "csv"), **settings)
for each in job.results:
    print(f"{each.relative}: {each.state}, {each.found or each.reason}")

# %%
# Beside the labels of each image lies the record of its run, and in the folder the report of the
# job.

print("\n".join(sorted(path.name for path in results.iterdir())))

# %%
# The tables can be read by anything.

for path in sorted(results.glob("a*.csv")):
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    areas = [float(row["area_px"]) for row in rows]
    print(f"{path.name}: {len(rows)} nuclei, on average {sum(areas) / len(areas):.0f} px")

# %%
# The same call again does nothing for images whose content, weights, settings and results are those
# of the record. So a job that was stopped goes on with the same command.

again = segment_folder(plates, results, formats=("tiff", "csv"), **settings)
print([(each.relative, each.state) for each in again.results])

# %%
# A look at all of them:

figure, axes = plt.subplots(1, 3, figsize=(9, 3.2), layout="constrained")
for axis, image in zip(axes, sorted(plates.glob("*.tif"))[:3], strict=True):
    pixels = tifffile.imread(image) / 4095
    labels = tifffile.imread(results / f"{image.stem}_labels.tif")
    axis.imshow(label2rgb(labels, pixels, alpha=0.35, bg_label=0))
    axis.set_title(image.name)
    axis.axis("off")
plt.show()
work.cleanup()
