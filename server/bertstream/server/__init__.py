"""The gRPC frontend: requests to token ids, to a worker, and back to the wire."""
