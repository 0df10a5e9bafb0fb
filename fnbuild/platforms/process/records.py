"""Records of functions and revisions in the store.

Commands read and change them under the function's lock. The supervisor keeps the state of each
function up to date through `StoredFunction`.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

from fnbuild.datadir import function_lock
from fnbuild.errors import FnbuildError, NotFoundError
from fnbuild.function.reader import function_from_dict
from fnbuild.function.types import Function
from fnbuild.platforms import FunctionKey
from fnbuild.platforms.errors import function_not_found_error
from fnbuild.platforms.process import foreground_records
from fnbuild.platforms.process.listeners import Listeners
from fnbuild.platforms.revision_records import RevisionHistory, failure_text
from fnbuild.platforms.stored_platform import active_revision
from fnbuild.store import FunctionRow, RevisionRow, Store

log = logging.getLogger(__name__)


@contextlib.contextmanager
def locked_function(key: FunctionKey, participle: str) -> Iterator[FunctionRow]:
    """Provide the function while it is locked; raise `NotFoundError` if it does not exist."""
    with Store.open() as store:
        require_function(store, key)
        with function_lock(*key, participle):
            yield require_function(store, key)


def fail_unfinished(key: FunctionKey, store: Store, error: FnbuildError) -> None:
    """Record the error for a function that its supervisor left in state `building`."""
    row = store.function(*key)
    if row is not None and row.revision == 0 and row.state == "building":
        with contextlib.suppress(FnbuildError):
            store.update_function(*key, state="error", message=error.message)


def require_function(store: Store, key: FunctionKey) -> FunctionRow:
    row = store.function(*key)
    if row is None:
        foreground_records.check_not_foreground(key)
        keys = [(row.namespace, row.name) for row in store.functions()]
        raise function_not_found_error(*key, keys)
    return row


def history_of(store: Store, key: FunctionKey) -> RevisionHistory[RevisionRow]:
    """Return the function's revision records; raise `NotFoundError` if it does not exist."""
    active = active_revision(store, require_function(store, key))
    return RevisionHistory(key.name, store.revisions(*key), active)


class StoredFunction:
    """A function in the store, for its supervisor. A state is written only when it changes."""

    def __init__(self, key: FunctionKey, store: Store):
        self.key = key
        self.store = store
        self._reported: tuple[str, str] | None = None
        self.unwritten: tuple[str, str] | None = None
        """The last state and message if they could not be written."""

    def row(self) -> FunctionRow:
        row = self.store.function(*self.key)
        if row is None:
            raise NotFoundError(f"there is no function {self.key.name}")
        return row

    def function(self, number: int) -> Function:
        """Return the configuration of a revision; raise `NotFoundError`."""
        return function_from_dict(
            self._revision(number).config, f"{self.key.name} revision {number}"
        )

    def _revision(self, number: int) -> RevisionRow:
        row = self.store.revision(*self.key, number)
        if row is None:
            raise NotFoundError(f"{self.key.name} has no revision {number}")
        return row

    def activate(self, number: int, function: Function, listeners: Listeners) -> None:
        """Record that the revision is active on these sockets."""
        self.store.activate_revision(
            *self.key,
            number,
            desired="running",
            state="ready",
            message="",
            http_port=listeners.port,
            admin_port=listeners.admin_port,
            grpc_port=listeners.grpc_port,
            config=self._revision(number).config,
            project=function.project,
        )
        self._reported = ("ready", "")

    def fail(self, number: int, error: BaseException) -> None:
        """Record why the revision failed, as the function's state too if none has ever served.

        The first line is the reason.
        """
        message = failure_text(number, self.key.name, error)
        try:
            self.store.fail_revision(*self.key, number, message)
            never_served = self.row().revision == 0
        except FnbuildError as store_error:
            log.warning("the failure of %s is not recorded: %s", self.key, store_error)
            return
        if never_served:
            self.report("error", message)

    def report(self, state: str, message: str) -> None:
        """Record the function's state if it differs from the last report."""
        self.unwritten = None
        if self._reported == (state, message):
            return
        try:
            self.store.update_function(*self.key, state=state, message=message)
            self._reported = (state, message)
        except FnbuildError as error:
            log.warning("the state of %s is not recorded: %s", self.key, error)
            if not isinstance(error, NotFoundError):
                self.unwritten = (state, message)

    def retry_report(self) -> None:
        """Write the last reported state if that failed, as it does on a full disk."""
        if self.unwritten is not None:
            self.report(*self.unwritten)

    @property
    def has_reported(self) -> bool:
        """Return True if a state was reported since `forget_report`."""
        return self._reported is not None

    def forget_report(self) -> None:
        """Write the next report in any case: another process may have changed the state."""
        self._reported = self.unwritten = None
