"""Say for each kind of task which tensors a model gives, and compute them."""
