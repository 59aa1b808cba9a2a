"""What is done with texts, whatever protocol they come by."""
