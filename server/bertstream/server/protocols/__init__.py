"""The protocols that callers speak, and what all protocols over gRPC share."""
