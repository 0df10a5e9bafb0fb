"""The end of a container that only imports the handler."""

from __future__ import annotations

import time
from contextlib import suppress

from fnbuild.builder.processor_settings import readiness_seconds
from fnbuild.errors import FnbuildError, NotReadyError
from fnbuild.platforms import Progress
from fnbuild.platforms.docker import logs
from fnbuild.platforms.docker.engine import Engine
from fnbuild.platforms.docker.labels import Made
from fnbuild.platforms.docker.readiness import opening
from fnbuild.platforms.processor_status import ImportVerdict

_PAUSE = 0.1


def check_import(engine: Engine, container: str, made: Made, progress: Progress) -> None:
    """Wait for the end of a container with the command `containers.CHECK_IMPORT`.

    Raises `NotReadyError` if the handler cannot be imported. If the check cannot decide without a
    GPU, the start of the function does.
    """
    seconds = readiness_seconds(made.function)
    deadline = time.monotonic() + seconds
    while (engine.container(container) or {}).get("State", {}).get("Running"):
        if time.monotonic() > deadline:
            progress(f"the check of the import decided nothing: it took longer than {seconds:g} s")
            return
        time.sleep(_PAUSE)
    output = ""
    with suppress(FnbuildError):  # some log drivers cannot be read
        output = logs.last_words(engine, container)
    verdict = ImportVerdict.of(output.encode())
    if verdict.verdict == "failed":
        raise NotReadyError(opening(made) + verdict.reason, detail=verdict.extra_detail or None)
    if verdict.verdict == "unknown":
        progress(f"the check of the import decided nothing: {verdict.reason}")
