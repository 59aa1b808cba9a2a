"""Run worker processes: checkpoints are compiled to TorchScript programs, and run in batches."""
