"""What every call passes before and after its handler, whatever service it is for: one chain, a file a link.

A link is `async (call, proceed) -> answer`: it refuses a call by raising RequestError before it proceeds.
"""
