"""Benchmarks with more calls than a server can answer: how many it answers in time, and how soon it refuses others."""
