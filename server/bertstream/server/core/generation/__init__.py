"""Text generation, from a request's inputs to what a worker is asked, and from its tokens to text."""
