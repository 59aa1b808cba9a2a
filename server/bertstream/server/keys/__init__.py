"""The file of keys: read and followed by the server, and written by `bertstream keys`."""
