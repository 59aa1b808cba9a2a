"""The command `bertstream top`: its arguments; the numbers, as they come over HTTP; and the screen."""
