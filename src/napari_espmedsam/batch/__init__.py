"""Runs that are too large for one sitting: whole slides, and many images as one job."""
