"""Take one batch through a program: join it, run it, and make each work's outputs."""
