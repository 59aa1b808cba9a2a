"""`bertstream.v1`: its messages made requests, and answers made its messages."""
