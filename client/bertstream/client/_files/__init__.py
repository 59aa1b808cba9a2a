"""Tasks over whole files: the streams of the SDK as the engine of `bertstream.files`."""
