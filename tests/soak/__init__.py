"""A server that is asked for everything for a long time, and whose processes must not grow: `make soak`."""
