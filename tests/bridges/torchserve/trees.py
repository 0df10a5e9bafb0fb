"""Trees of a model store, with archives that echo the body of a request."""

from __future__ import annotations

from pathlib import Path

from fnbuild.bridges.torchserve.archive import (
    ArchiveManifest,
    ArchiveModel,
    archive_draft,
    write_archive,
)

# As an article about KServe has it.
ARTICLE = Path(__file__).parents[2] / "data" / "torchserve" / "config.properties"

_HANDLER = b"""\
def handle(data, context):
    if data is None:
        return None
    reply = {"model": context.model_name, "batch": len(data)}
    reply["batch_size"] = context.system_properties["batch_size"]
    return [reply for row in data]
"""


def write_model(target: Path, name: str, version: str = "1.0", **files: bytes) -> Path:
    """Write an archive, which is a folder unless its name ends with .mar or .tar.gz.

    `files` are further ones by their fields in the manifest, such as `requirements_file`.
    """
    names = {field: f"{field}.txt" for field in files}
    model = ArchiveModel(model_name=name, model_version=version, handler="echo_handler.py", **names)
    content = {names[field]: data for field, data in files.items()}
    archive_format = {".mar": "default", ".gz": "tgz"}.get(target.suffix, "no-archive")
    with archive_draft(target) as draft:
        files = {"echo_handler.py": _HANDLER, **content}
        write_archive(draft, files, ArchiveManifest(model=model), archive_format)
    return target


def write_tree(folder: Path, config: str) -> Path:
    """Write a tree with an empty store, and return its configuration."""
    file = folder / "config" / "config.properties"
    file.parent.mkdir(parents=True)
    file.write_text(config)
    (folder / "model-store").mkdir()
    return file
