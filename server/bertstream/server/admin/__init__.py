"""The admin process: what a person sees of a server from outside, over HTTP."""
