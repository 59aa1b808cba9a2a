"""Others' clients, as they are published, ask a real server; `make test-clients` installs them."""
