"""The pictures of the page in docs/pictures, taken anew by `make pictures`."""
