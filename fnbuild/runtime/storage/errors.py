"""The error of this package."""


class StorageError(Exception):
    """A model that cannot be read: the cause, and the remedy as `hint`.

    `transient` errors may disappear by themselves, as when a server does not answer.
    """

    def __init__(self, message: str, hint: str = "", transient: bool = False) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.transient = transient

    def __str__(self) -> str:
        return "%s; %s" % (self.message, self.hint) if self.hint else self.message
