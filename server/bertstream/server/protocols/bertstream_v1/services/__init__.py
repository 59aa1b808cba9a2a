"""The gRPC services: thin shells between the protocol and what does the work."""
