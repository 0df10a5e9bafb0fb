"""Formats of other model servers, written and read."""
