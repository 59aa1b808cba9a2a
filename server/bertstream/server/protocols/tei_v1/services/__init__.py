"""Serve the rpcs of `tei.v1`, a file for each service."""
