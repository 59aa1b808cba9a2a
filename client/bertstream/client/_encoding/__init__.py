"""Tokens, vectors and other outputs of the encoder: their options, requests and answers."""
