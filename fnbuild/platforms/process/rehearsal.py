"""Import the handler of a new revision before the processor that holds the GPU is stopped."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from contextlib import suppress
from typing import Any

from fnbuild.errors import NotReadyError
from fnbuild.platforms import Progress
from fnbuild.platforms.process.environment import scrubbed
from fnbuild.platforms.process.isolation import processor_python, user_for
from fnbuild.platforms.process.layout import Key
from fnbuild.platforms.process.readiness import opening
from fnbuild.platforms.processors import ImportVerdict


async def rehearse(key: Key, number: int, progress: Progress) -> None:
    """Raise `NotReadyError`, with the handler's own error, if the handler cannot be imported.

    If the check is inconclusive without a GPU, the start of the processor decides.
    """
    progress("importing the handler without a GPU, while the old revision serves")
    try:
        process, config = await _start(key, number)
    except (OSError, ValueError, KeyError) as error:
        progress(f"the check of the import decided nothing: {error}")
        return
    try:
        out, _ = await process.communicate(config)
    finally:
        with suppress(ProcessLookupError):
            process.kill()
    verdict = ImportVerdict.of(out)
    if verdict.verdict == "failed":
        raise NotReadyError(opening(number, key.name) + verdict.reason, detail=verdict.more or None)
    if verdict.verdict == "unknown":
        progress(f"the check of the import decided nothing: {verdict.reason}")


async def _start(key: Key, number: int) -> tuple[asyncio.subprocess.Process, bytes]:
    """Start the check as the processor's user; return the process and its input.

    The configuration is passed through stdin, since that user may not read the file.
    """
    config = key.config(number).read_bytes()
    user = user_for(key, number, str(json.loads(config)["interpreter"]), gpu=False)
    python, environment = sys.executable, scrubbed(os.environ)
    options: dict[str, Any] = {}
    if user is not None:
        python, environment = processor_python(), environment | user.environment
        options = {"user": user.number, "group": user.number, "extra_groups": user.groups}
    process = await asyncio.create_subprocess_exec(
        python,
        *("-m", "fnbuild.runtime.importcheck", "-"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env=environment,
        cwd="/",
        start_new_session=True,
        **options,
    )
    return process, config
