"""The chain of interceptors that every call of every service passes around its handler; each file has one link.

A link is `async (call, proceed) -> answer`: it refuses a call by raising RequestError before it proceeds.
"""
