"""Two at a time: bertstream beside transformers or sentence-transformers, on what only these do too.

Task heads, generation, layers, the time until a server is ready, and the memory of its processes. Each pair takes
turns, on the same random checkpoint, texts and cores.
"""
