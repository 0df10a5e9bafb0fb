"""Authentication: tokens, sessions, and the middleware that checks each request."""
