"""Speak `tei.v1`, the interface of text-embeddings-inference: requests of the core for its messages, and back."""
