"""The I/O of both clients: addresses, channels, and calls made in threads or in event loops."""
