"""Check a function: send it requests of its kind, and apply the rules to its replies."""
