"""`fnbuild model pull`, `load` and `prune`: the models that were downloaded to this machine."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fnbuild.cli.base_command import Command
from fnbuild.cli.console import count_text, note
from fnbuild.cli.output import format_table, output_option, print_value
from fnbuild.cli.session import Session, pass_session

if TYPE_CHECKING:
    from fnbuild.models.cache import CachedModel
    from fnbuild.platforms import Platform

_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command(cls=Command)
@click.argument("uri")
@click.option("--sha256", metavar="HASH", default="", help="The expected sha256 of the model.")
@click.option("--include", metavar="PATTERN", multiple=True, help="Files to pull. Repeatable.")
@click.option("--exclude", metavar="PATTERN", multiple=True, help="Files to omit. Repeatable.")
@click.option("--offline", is_flag=True, help="Take it from the cache without asking the server.")
@click.option("--bundle", type=_FILE, help="Also write the model to this tar archive.")
@click.option(
    "--into",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="FOLDER",
    help="Put it into this folder of a function instead; git ignores it there.",
)
def pull(**flags: Any) -> None:
    """Download a model to the cache of this machine, and print its path.

    URI is https://…, hf://OWNER/MODEL[@REVISION], s3://BUCKET/PATH or gs://BUCKET/PATH; a local
    path is only checked. An interrupted download continues, and unchanged files are not downloaded
    again. Credentials are those of `fnbuild model ls`.
    """
    from fnbuild.cli.progress import ProgressDisplay
    from fnbuild.models import cache

    request = cache.PullRequest(flags["uri"], flags["sha256"], flags["include"], flags["exclude"])
    if request.storage_uri.scheme == "file":
        path = cache.check_local(request)
        if flags["bundle"]:
            raise click.UsageError("--bundle needs a model that was downloaded, not a local path")
        click.echo(cache.place_into(path, flags["into"]) if flags["into"] else path)
        return
    with ProgressDisplay() as progress:
        model = cache.pull(request, progress, offline=flags["offline"])
    if flags["bundle"]:
        cache.write_bundle(model, flags["bundle"])
        note(
            f"wrote {flags['bundle']}; `fnbuild model load` adds it to the cache of another machine"
        )
    note(f"{count_text(len(model.files), 'file')}, {_mebibytes(model.size)}; sha256 {model.sha256}")
    click.echo(cache.place_into(model.path, flags["into"]) if flags["into"] else model.path)


@click.command(cls=Command)
@click.argument("bundle", type=click.Path(path_type=Path, dir_okay=False, exists=True))
def load(bundle: Path) -> None:
    """Add the model of a bundle to the cache after a check of its hashes, and print its path.

    `fnbuild model pull URI --bundle FILE` writes bundles for machines without a network.
    """
    from fnbuild.models import cache

    model = cache.load_bundle(bundle)
    note(f"loaded {model.uri}; sha256 {model.sha256}")
    click.echo(model.path)


@dataclass(frozen=True, slots=True)
class _Removal:
    model: CachedModel
    outcome: str


@click.command(cls=Command)
@click.option("--older-than", metavar="DURATION", help="Models not pulled for this time, as 720h.")
@click.option("--max-size", metavar="SIZE", help="The oldest beyond this size, such as 20Gi.")
@click.option("--all", "everything", is_flag=True, help="All models.")
@click.option("--dry-run", is_flag=True, help="List what would be removed.")
@output_option()
@pass_session
def prune(session: Session, /, output: str, **flags: Any) -> None:
    """Remove models from the cache, but none that a function of the namespace names."""
    from fnbuild.models import cache

    older_than = _parsed("--older-than", flags["older_than"])
    max_size = _parsed("--max-size", flags["max_size"])
    if older_than is None and max_size is None and not flags["everything"]:
        raise click.UsageError("name what to remove: --older-than, --max-size or --all")
    models = cache.cached_models()
    limit = None if max_size is None else int(max_size)
    chosen = models if flags["everything"] else cache.choose_for_removal(models, older_than, limit)
    users = _users(session.connect(), session.namespace) if chosen else {}
    removals = []
    for model in chosen:
        user = next((name for name, text in users.items() if f"/models/{model.key}/" in text), "")
        outcome = f"stays: {user} uses it" if user else _remove(model, dry_run=flags["dry_run"])
        removals.append(_Removal(model, outcome))
    _print_removals(removals, output)


def _remove(model: CachedModel, *, dry_run: bool) -> str:
    """Remove a model, and return what happened."""
    from fnbuild.errors import BusyError
    from fnbuild.models import cache

    if dry_run:
        return "would be removed"
    try:
        cache.remove(model)
    except BusyError as error:
        return f"stays: {error.message}"
    return "removed"


def _parsed(flag: str, text: str | None) -> float | None:
    from fnbuild.errors import UsageError
    from fnbuild.function.quantities import parse_duration, parse_quantity

    if text is None:
        return None
    try:
        parse = parse_duration if flag == "--older-than" else parse_quantity
        value = float(parse(text))
    except ValueError as error:
        raise UsageError(f"{flag}: {error}") from None
    if value < 0:
        raise UsageError(f"{flag} {text}: it is below zero")
    return value


def _users(platform: Platform, namespace: str) -> dict[str, str]:
    """Return the configurations of the deployed functions as texts, by name."""
    from fnbuild.function.types import to_dict

    deployments = platform.deployments(namespace)
    return {item.name: json.dumps(to_dict(item.function), default=str) for item in deployments}


def _print_removals(removals: list[_Removal], output: str) -> None:
    if output in ("json", "yaml"):
        values = [{**_value(item.model), "outcome": item.outcome} for item in removals]
        print_value(values, output)
        return
    rows = [[item.model.uri, _mebibytes(item.model.size), item.outcome] for item in removals]
    click.echo(format_table(["model", "size", "outcome"], rows))


def list_cache(output: str) -> None:
    """Print the models of the cache."""
    from fnbuild.models.cache import cached_models

    models = cached_models()
    if output in ("json", "yaml"):
        print_value([_value(model) for model in models], output)
        return
    header = ["model", "size", "files", "pulled"]
    rows: list[list[object]] = [
        [model.uri, _mebibytes(model.size), len(model.files), _date(model.pulled)]
        for model in models
    ]
    if output == "wide":
        header += ["sha256", "path"]
        rows = [
            [*row, model.sha256, str(model.path)] for row, model in zip(rows, models, strict=True)
        ]
    click.echo(format_table(header, rows))


def _value(model: CachedModel) -> dict[str, Any]:
    return {
        "uri": model.uri,
        "path": str(model.path),
        "size": model.size,
        "sha256": model.sha256,
        "files": model.files,
        "pulled": model.pulled,
        "used": model.used,
    }


def _date(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))


def _mebibytes(size: int) -> str:
    return f"{size / (1 << 20):.1f} MiB"
