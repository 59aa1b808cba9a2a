"""Worker processes: checkpoints compiled to TorchScript programs, and run in batches."""
