"""What processes count and time: declarations of metrics, the instruments behind them, and their snapshots."""
