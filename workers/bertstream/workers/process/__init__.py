"""Processes: the supervisor and its children, how they are told and watched, and the worker's own main."""
