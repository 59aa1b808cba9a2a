"""The tasks of heads: each turns items into rows for the workers, and their outputs into answers."""
