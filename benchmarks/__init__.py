"""What bertstream and its peers can do, measured side by side: `make bench`, docs/benchmarks.md."""
