"""A server under load, faults one after another, and each answer checked and counted: `make chaos`."""
