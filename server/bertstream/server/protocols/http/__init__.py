"""Speak JSON over HTTP: requests of the core for bodies of several APIs, and back."""
