"""What calls and streams do, without any I/O, so that both clients can run it."""
