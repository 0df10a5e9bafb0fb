"""`fnbuild model`: upload models to storage, and list them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fnbuild.cli.base_command import Command, LazyGroup, command_entries
from fnbuild.cli.console import count_text, note, warn
from fnbuild.cli.create_storage import cluster_namespace
from fnbuild.cli.options import combine_options
from fnbuild.cli.output import format_table, output_option, print_value
from fnbuild.cli.session import Session, pass_session

if TYPE_CHECKING:
    from fnbuild.models.listing import StoredFile
    from fnbuild.models.local_files import LocalFile
    from fnbuild.models.upload import ModelTarget
    from fnbuild.platforms.storage.claims import ClaimConnection
    from fnbuild.progress import Progress
    from fnbuild.runtime.storage.uris import StorageUri

_MODEL_COMMANDS = command_entries(
    {
        "upload": ("model:upload", "Upload a model to a claim, a bucket or a folder."),
        "ls": ("model:ls", "List the files of a model, or the models of the cache.", "list"),
        "pull": ("model_cache:pull", "Download a model to the cache of this machine."),
        "load": ("model_cache:load", "Add the model of a bundle to the cache."),
        "prune": ("model_cache:prune", "Remove models from the cache."),
    }
)

_pod_options = combine_options(
    click.option(
        "--image", metavar="NAME", default="", help="Image of the pod for a claim, with python3."
    ),
    click.option(
        "--function",
        metavar="NAME",
        default="",
        help="Deployed function whose image runs the pod for a claim.",
    ),
)


@dataclass(frozen=True, slots=True)
class ClaimPod:
    """The options for the pod of a claim: an image, or the function whose image it runs."""

    image: str
    function: str


@click.group(cls=LazyGroup, entries=_MODEL_COMMANDS)
def model() -> None:
    """Upload models to storage, list them, and download them to a cache of this machine.

    A storage URI is pvc://CLAIM/PATH, s3://BUCKET/PATH, gs://BUCKET/PATH or a local path; for
    lists also https://… and hf://OWNER/MODEL.
    """


@click.command(cls=Command)
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("destination")
@click.option(
    "--format",
    "model_format",
    metavar="NAME",
    default="",
    help="Model format, such as pytorch: check that its server can load the files.",
)
@_pod_options
@pass_session
def upload(
    session: Session, /, source: Path, destination: str, model_format: str, **options: str
) -> None:
    """Upload a file, or the content of a folder, and print the storage URI.

    Files that are there already with the same sha256 are skipped, so that an interrupted upload
    continues with the same command. A claim is written by a pod that runs the image of --image, of
    --function or of a function that uses the claim, or else python:3.11.
    """
    from fnbuild.cli.progress import ProgressDisplay
    from fnbuild.models.layouts import check_layout, detect_format
    from fnbuild.models.local_files import local_files
    from fnbuild.models.upload import upload_files
    from fnbuild.models.uris import check_model_folder, parse_storage_uri

    files = local_files(source)
    uri = parse_storage_uri(_absolute(destination))
    if len(files) == 1 and source.is_file() and uri.name == source.name:
        uri = uri._replace(path=uri.path.rpartition("/")[0])
    model_format = model_format or detect_format(files)
    check_model_folder(uri, model_format)
    for warning in check_layout(model_format, files):
        warn(warning)
    pod = ClaimPod(options["image"], options["function"])
    with ProgressDisplay() as progress, _open_target(session, uri, pod, progress) as target:
        result = upload_files(files, target, progress)
    _warn_of_files(uri, files, result.others)
    skipped = f", {result.skipped} unchanged" if result.skipped else ""
    note(f"uploaded {count_text(result.uploaded, 'file')}{skipped}; sha256 {result.sha256}")
    # Without the slash, KServe would also download s3://BUCKET/PATHS for s3://BUCKET/PATH.
    click.echo(f"{uri}/" if uri.scheme == "s3" and uri.path else str(uri))


def _absolute(text: str) -> str:
    return text if "://" in text else str(Path(text).absolute())


def _warn_of_files(uri: StorageUri, files: list[LocalFile], others: tuple[str, ...]) -> None:
    empty = [file.path for file in files if not file.size]
    if empty and uri.scheme == "s3":
        warn(f"KServe does not download empty files from S3: {', '.join(empty[:5])}")
    if others:
        warn(f"{uri} also has {count_text(len(others), 'other file')}: {', '.join(others[:5])}")


@contextmanager
def _open_target(
    session: Session, uri: StorageUri, pod: ClaimPod, progress: Progress
) -> Iterator[ModelTarget]:
    from fnbuild.errors import InputError
    from fnbuild.models.upload import FolderTarget

    if uri.scheme == "file":
        yield FolderTarget(Path(uri.path))
    elif uri.scheme in ("s3", "gs"):
        from fnbuild.models.buckets import BucketTarget

        yield BucketTarget(uri)
    elif uri.scheme == "pvc":
        with _open_claim(session, uri, pod, progress, write=True) as claim:
            yield claim
    else:
        raise InputError(
            f"models cannot be uploaded to {uri.scheme}://", hint="use pvc, s3, gs or a folder"
        )


@contextmanager
def _open_claim(
    session: Session, uri: StorageUri, pod: ClaimPod, progress: Progress, *, write: bool
) -> Iterator[ClaimConnection]:
    from fnbuild.platforms.kubeclient.connection import connect
    from fnbuild.platforms.storage import claims

    cluster = connect(session.connect_options)
    folder = claims.ClaimFolder(cluster_namespace(session), uri.location, uri.path)
    image = pod.image
    if not image and pod.function:
        image = claims.function_image(cluster, folder.namespace, pod.function)
    image = image or claims.claim_image(cluster, folder)
    with claims.open_claim(cluster, folder, image, progress, write=write) as connection:
        yield connection


@click.command(cls=Command)
@click.argument("uri", required=False)
@_pod_options
@output_option()
@pass_session
def ls(session: Session, /, uri: str | None, output: str, **options: str) -> None:
    """List the files of a model: path and size, with `-o wide` also sha256 and version.

    Without URI, list the models that `fnbuild model pull` has downloaded to this machine.
    """
    from fnbuild.models.uris import parse_storage_uri

    if uri is None:
        from fnbuild.cli.model_cache import list_cache

        list_cache(output)
        return
    location = parse_storage_uri(_absolute(uri))
    files = _list(session, location, ClaimPod(options["image"], options["function"]))
    if output in ("json", "yaml"):
        print_value([asdict(file) for file in files], output)
        return
    header = ["path", "size"]
    rows: list[list[object]] = [[file.path, _size(file)] for file in files]
    if output == "wide":
        header += ["sha256", "version"]
        rows = [[*row, file.sha256, file.version] for row, file in zip(rows, files, strict=True)]
    click.echo(format_table(header, rows))


def _list(session: Session, uri: StorageUri, pod: ClaimPod) -> list[StoredFile]:
    from fnbuild.cli.progress import ProgressDisplay
    from fnbuild.models.listing import list_files

    if uri.scheme != "pvc":
        return list_files(uri)
    with (
        ProgressDisplay() as progress,
        _open_claim(session, uri, pod, progress, write=False) as claim,
    ):
        return claim.files()


def _size(file: StoredFile) -> str:
    return str(file.size) if file.size >= 0 else ""
