"""The configuration of a function: the values of function.yaml, their reader and their rules."""
