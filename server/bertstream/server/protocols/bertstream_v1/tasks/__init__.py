"""Task heads in `bertstream.v1`: parses options into tasks, and writes their answers into messages."""
