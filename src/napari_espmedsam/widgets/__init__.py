"""napari widgets: forms, layers and workers. No maths and no torch; a run imports the model."""
