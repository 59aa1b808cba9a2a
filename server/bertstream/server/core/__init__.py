"""The server's work with texts, independent of the protocol by which they come."""
