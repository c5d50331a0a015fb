"""What hypothesis draws for a target: any bytes, and valid files with damage."""

from __future__ import annotations

from hypothesis import strategies as st

from tests.fuzz.mutate import mutate
from tests.fuzz.targets import Target


def contents(target: Target) -> st.SearchStrategy[bytes]:
    """Return a strategy of file contents."""
    damaged = st.builds(mutate, st.sampled_from(target.seeds()), st.integers(0, 2**32 - 1))
    return st.one_of(damaged, damaged, st.binary(max_size=300))
