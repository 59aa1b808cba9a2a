"""The process that starts all others, watches them, and stops them in order. It loads no torch and no grpc."""
