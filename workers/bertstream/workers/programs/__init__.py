"""Compiled models: what is asked of one, what it says of itself, and how it is loaded and run."""
