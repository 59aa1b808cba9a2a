"""One batch through a program: joined, run, and made into each work's outputs."""
