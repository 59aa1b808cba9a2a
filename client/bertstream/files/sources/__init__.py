"""Readers of files, one module for a kind of format."""
