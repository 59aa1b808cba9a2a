"""Load and run compiled models, and describe them."""
