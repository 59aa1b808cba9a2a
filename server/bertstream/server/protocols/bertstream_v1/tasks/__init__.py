"""Task heads in `bertstream.v1`: options made tasks, and their answers made messages."""
