"""The server's gRPC services, called from the same process: without a port, and without a message being written."""
