"""What calls and streams do, without any I/O: both clients run it."""
