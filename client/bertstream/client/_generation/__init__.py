"""Text generation: its options, requests and answers, and the methods of both clients."""
