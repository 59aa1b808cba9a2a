"""Our own tasks as plain JSON: a route for each, which turns a body into the options and items of its rpc."""
