"""Task heads: each turns items into rows of work, and the rows' numbers into answers."""
