"""The task heads: their options, requests and answers, and the methods of both clients."""
