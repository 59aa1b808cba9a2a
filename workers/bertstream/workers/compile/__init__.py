"""Compile checkpoints into models that a worker can load."""
