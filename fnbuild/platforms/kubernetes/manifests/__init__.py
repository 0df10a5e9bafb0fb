"""Manifests of a function's objects, rendered by pure functions."""
