"""More calls than a server can answer: what it still answers in time, and how soon it says no to the others."""
