"""Rows of files in, columns of files out: the parts of bulk files that know neither gRPC nor a server.

The SDK (`Client.encode_file` and its siblings) and others that run the same tasks over files share them. Private: what
is public of it is in `bertstream.client`.

    Source --chunks--> Job --items--> whoever answers them --answers--> Job --parts--> Journal --join--> Sink's output

A Source reads rows of a file, an Operation says which columns a task reads and which it gives, a Sink writes these in a
format, and a Journal knows what is written, so that a run that was killed goes on where it stopped. Arrow and fsspec
are imported where they are needed: text, JSON, CSV and NumPy's files do without.
"""
