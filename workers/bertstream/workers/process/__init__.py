"""Run processes: the supervisor, its children and the line between them, and the worker's own main."""
