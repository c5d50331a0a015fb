"""From an image to labels: numpy in, numpy out; tensors never leave this package.

``request``, ``postprocess``, ``image``, ``intensity``, ``geometry`` and ``tiling`` need no torch;
``segmenter`` and ``device`` do, and are imported when a model is wanted.
"""
