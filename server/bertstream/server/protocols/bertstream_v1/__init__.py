"""The protocol `bertstream.v1`: parses its messages into requests, and writes answers into its messages."""
