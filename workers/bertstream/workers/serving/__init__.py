"""Serve batches: connections, the queue and its order, and the loop that has batches computed."""
