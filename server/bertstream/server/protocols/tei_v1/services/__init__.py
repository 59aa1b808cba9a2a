"""The services of `tei.v1`, each with the handlers of its rpcs."""
