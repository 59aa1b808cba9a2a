"""The gRPC services: thin layers between the protocol and the core."""
