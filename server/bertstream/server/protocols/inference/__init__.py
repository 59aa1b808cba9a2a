"""Speak the Open Inference Protocol (`inference`): requests of the core for tensors, and tensors for its answers."""
