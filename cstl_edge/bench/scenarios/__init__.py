"""Scenarios of the benchmark suite; `open` holds their table."""
