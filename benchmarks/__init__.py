"""Benchmarks of bertstream and its peers, side by side: `make bench`, docs/benchmarks.md."""
