"""The process of the admin port: metrics, health over HTTP, live numbers, and what pages for people need."""
