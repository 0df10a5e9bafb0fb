"""Replace processors that were started with other code of the runtime, as before an upgrade.

Such a processor starts its workers with the code that is on the disk now, and their messages may
differ from its own.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection
from functools import partial

from fnbuild.datadir import function_lock
from fnbuild.errors import BusyError
from fnbuild.platforms import FunctionKey, audit, function_log
from fnbuild.platforms.process import records, revisions
from fnbuild.platforms.process.layout import log_path
from fnbuild.platforms.process.processor_handle import ProcessorHandle, runtime_digest
from fnbuild.platforms.process.supervised_function import SupervisedFunction
from fnbuild.store import Store

_ACTOR = "supervisor"
_BUSY_SECONDS = 1.0

log = logging.getLogger(__name__)


async def replace_outdated(functions: Collection[SupervisedFunction], store: Store) -> None:
    """Redeploy the functions whose processors run other code than that on the disk, one by one.

    A failure leaves the old processor serving and is reported in the function's state and log.
    """
    current = runtime_digest()
    for function in functions:
        processor = function.active
        if processor is None or processor.runtime == current:
            continue
        # A deploy that holds the function's lock may replace the processor as well.
        while function.active is processor and not await _redeploy(function, processor, store):
            await asyncio.sleep(_BUSY_SECONDS)


async def _redeploy(function: SupervisedFunction, processor: ProcessorHandle, store: Store) -> bool:
    """Run the active revision again as a new one; return False if the function is locked."""
    key = function.key
    outcome = audit.DONE
    try:
        with function_lock(*key, "redeployed"):
            log.info("%s is replaced, because fnbuild has changed since its start", processor)
            number = await asyncio.to_thread(_repeat_active_revision, key, store)
            await function.switch(number, partial(log.info, "%s: %s", key), overlap=False)
            await asyncio.to_thread(revisions.prune_revisions, key, store)
    except BusyError:
        return False
    except Exception as error:  # an error in one function must not affect the others
        log.warning("%s is not replaced", processor, exc_info=True)
        outcome = f"failed: {error}"
        processor.notice = (
            "its processor was started by another version of fnbuild and could not be replaced:"
            f" {error}; `fnbuild redeploy {key.name}` tries again"
        )
        function_log.append(log_path(key), "error", processor.notice)
    audit.record_change("redeploy", f"process {key}", outcome, by=_ACTOR)
    return True


def _repeat_active_revision(key: FunctionKey, store: Store) -> int:
    """Record a new revision with the code of the active one; return its number."""
    selected = records.history_of(store, key).choose_for_redeploy()
    assert selected is not None, "the revision of a running processor is recorded"
    recorded, origin = selected
    number = revisions.copy_revision(key, recorded, store).number
    store.record_origin(*key, number, origin.revision, origin.note)
    return number
