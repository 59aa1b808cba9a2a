"""text-embeddings-inference's interface, `tei.v1`: its messages made requests of the core, and answers its messages."""
