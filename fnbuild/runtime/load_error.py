"""The error of a handler that cannot be loaded."""


class LoadError(Exception):
    """The handler cannot be loaded; the message is for the function's author."""
