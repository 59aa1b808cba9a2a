"""What shells and readers of manuals know of the commands: completion and a manual page, from the parsers alone."""
