"""The server: its supervisor, and the gRPC frontends that turn requests into token ids and ask workers for answers."""
