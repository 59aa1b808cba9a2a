"""Serve the rpcs of `inference.GRPCInferenceService`: a file for each group of them."""
