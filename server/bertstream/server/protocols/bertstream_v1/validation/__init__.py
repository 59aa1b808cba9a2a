"""Requests to typed, valid values, once, at the door. What is behind it trusts them."""
