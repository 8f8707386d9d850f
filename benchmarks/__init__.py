"""Performance, each figure with its baseline in the same run. See docs/benchmarks.md."""
