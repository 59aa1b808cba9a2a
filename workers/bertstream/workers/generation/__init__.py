"""Generate text token by token: sequences of different lengths and ages decode together."""
