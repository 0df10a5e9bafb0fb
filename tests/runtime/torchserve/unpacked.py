"""Archives of TorchServe as processors serve them: unpacked, or imported as functions."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fnbuild.bridges.torchserve.import_archive import ImportOptions, import_archive
from fnbuild.bridges.torchserve.server_config import ServerConfig
from fnbuild.builder.processor_settings import processor_settings
from tests.runtime.conftest import Running, running


def archive(handler: str, files: dict[str, str], **model: str) -> dict[str, Any]:
    """Return the arguments of a processor for an archive named `m`, of version 1.0."""
    named = {"modelName": "m", "modelVersion": "1.0", "handler": handler, **model}
    manifest = {"createdOn": "20/11/2026 06:47:34", "runtime": "python", "model": named}
    attributes = {"protocols": ["torchserve"], "model": "m", "version": "1.0"}
    return {
        "source": "",
        "handler": handler,
        "files": {**files, "MAR-INF/MANIFEST.json": json.dumps(manifest)},
        "trigger": {"attributes": attributes},
    }


@contextlib.contextmanager
def imported(archive: Path, home: Path, server: ServerConfig | None = None) -> Iterator[Running]:
    """Serve the function that is imported from an archive."""
    options = ImportOptions(server=server or ServerConfig())
    folder = home / "imported"
    function = import_archive(archive, folder, options)
    settings = processor_settings(function)
    settings |= {"code": str(folder), "log": {"level": "debug", "format": "json"}}
    settings["env"] = {variable.name: variable.value for variable in function.spec.env}
    with running(home, "", **settings) as processor:
        yield processor
