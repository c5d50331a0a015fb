"""Many images as one frozen job, and slides in chunks: found, segmented, recorded, resumed."""
