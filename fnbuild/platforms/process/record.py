"""A function's record in the store, as the supervisor reads and keeps it."""

from __future__ import annotations

import logging

from fnbuild.errors import FnbuildError, NotFoundError
from fnbuild.platforms.process.layout import Key
from fnbuild.platforms.process.readiness import opening
from fnbuild.platforms.process.sockets import Listeners
from fnbuild.spec.reader import from_raw
from fnbuild.spec.types import Function
from fnbuild.store import FunctionRow, RevisionRow, Store

log = logging.getLogger(__name__)


class Record:
    """What is on record about one function. A state is written when it changes, not each time."""

    def __init__(self, key: Key, store: Store):
        self.key = key
        self.store = store
        self._reported: tuple[str, str] | None = None
        self._unwritten: tuple[str, str] | None = None

    def row(self) -> FunctionRow:
        row = self.store.function(*self.key)
        if row is None:
            raise NotFoundError(f"there is no function {self.key.name}")
        return row

    def function(self, number: int) -> Function:
        """The configuration of a revision; raises `NotFoundError`."""
        return from_raw(self._revision(number).config, f"{self.key.name} revision {number}")

    def _revision(self, number: int) -> RevisionRow:
        row = self.store.revision(*self.key, number)
        if row is None:
            raise NotFoundError(f"{self.key.name} has no revision {number}")
        return row

    def activate(self, number: int, function: Function, listeners: Listeners) -> None:
        """Note that the revision serves now, on these sockets."""
        self.store.activate(
            *self.key,
            number,
            desired="running",
            state="ready",
            message="",
            http_port=listeners.port,
            admin_port=listeners.admin_port,
            config=self._revision(number).config,
            project=function.metadata.labels.get("nuclio.io/project-name", "default"),
        )
        self._reported = ("ready", "")

    def fail(self, number: int, error: BaseException) -> None:
        """Note why the revision does not serve; of a function that never did, it is the state.

        The first line is the reason.
        """
        message = "the deploy was interrupted"
        if isinstance(error, FnbuildError):
            reason = error.message.removeprefix(opening(number, self.key.name))
            message = "\n".join(part for part in (reason, error.detail) if part)
        try:
            self.store.fail(*self.key, number, message)
            never_served = self.row().revision == 0
        except FnbuildError as problem:
            log.warning("the failure of %s is not recorded: %s", self.key, problem)
            return
        if never_served:
            self.report("error", message)

    def report(self, state: str, message: str) -> None:
        """Note the function's state, where it is another than the last one reported."""
        self._unwritten = None
        if self._reported == (state, message):
            return
        try:
            self.store.update_function(*self.key, state=state, message=message)
            self._reported = (state, message)
        except FnbuildError as error:
            log.warning("the state of %s is not recorded: %s", self.key, error)
            if not isinstance(error, NotFoundError):
                self._unwritten = (state, message)

    def retry(self) -> None:
        """Write the last reported state if that failed, as it does on a full disk."""
        if self._unwritten is not None:
            self.report(*self._unwritten)

    @property
    def unwritten(self) -> tuple[str, str] | None:
        """Return the last state and message if they could not be written."""
        return self._unwritten

    @property
    def reported(self) -> bool:
        """Whether a state was reported since `forget`."""
        return self._reported is not None

    def forget(self) -> None:
        """Others have written the state since: the next report is written whatever it is."""
        self._reported = self._unwritten = None
