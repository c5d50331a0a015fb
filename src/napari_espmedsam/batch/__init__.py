"""Many images, one frozen job: found, segmented one by one, recorded, reported, resumed."""
