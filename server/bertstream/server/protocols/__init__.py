"""What speaks to callers; beside the protocols, what those over gRPC share."""
