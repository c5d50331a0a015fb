"""Reading images and writing results: files in, numpy arrays and plain metadata out, no torch."""
