"""Access to a function: credentials of requests, and checks of the pages that send them."""
