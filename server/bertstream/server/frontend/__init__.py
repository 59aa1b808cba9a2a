"""The frontend's process and its gRPC server."""
