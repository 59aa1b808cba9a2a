"""Whom this machine's files and connections come from: what the server runs or reads is what it wrote itself."""
