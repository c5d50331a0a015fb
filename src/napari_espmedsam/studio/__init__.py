"""A session without a window: what was edited, how it is undone, kept in a file and replayed."""
