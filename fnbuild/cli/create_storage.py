"""`fnbuild create volume` and `fnbuild create storage-secret`: storage of models in a cluster."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fnbuild.cli.base_command import Command
from fnbuild.cli.console import note, warn
from fnbuild.cli.options import combine_options
from fnbuild.cli.output import output_option, print_value
from fnbuild.cli.session import Session, pass_session
from fnbuild.names import DEFAULT_NAMESPACE

if TYPE_CHECKING:
    from fnbuild.function.types import Raw
    from fnbuild.platforms.storage.credentials import S3Settings

_STORAGE_TYPES = ("s3", "gs", "hf", "https")
_ACCESS_MODES = {
    "RWO": "ReadWriteOnce",
    "ROX": "ReadOnlyMany",
    "RWX": "ReadWriteMany",
    "RWOP": "ReadWriteOncePod",
}
_SWITCHES = ("use_https", "verify_ssl", "virtual_bucket", "accelerate", "anonymous")

_dry_run_options = combine_options(
    click.option("--dry-run", is_flag=True, help="Print the manifests without applying them."),
    output_option(default="yaml", formats=("yaml", "json")),
)


def cluster_namespace(session: Session) -> str:
    """Return the given namespace, that of the cluster's context, or Nuclio's default."""
    from fnbuild.platforms.kubeclient.connection import default_namespace

    return (
        session.given_namespace or default_namespace(session.connect_options) or DEFAULT_NAMESPACE
    )


@click.command(cls=Command)
@click.argument("name")
@click.option("--size", metavar="QTY", required=True, help="Size, such as 10Gi.")
@click.option(
    "--access-mode",
    type=click.Choice([*_ACCESS_MODES, *_ACCESS_MODES.values()], case_sensitive=False),
    default="ReadWriteOnce",
    show_default=True,
    help="Access mode of the claim.",
)
@click.option(
    "--class",
    "storage_class",
    metavar="NAME",
    help="Storage class, also '' for none. [default: that of the cluster]",
)
@click.option("--host-path", metavar="PATH", default="", help="Back end: a folder of a node.")
@click.option("--node", metavar="NAME", default="", help="The node of --host-path.")
@click.option("--nfs", metavar="SERVER:PATH", default="", help="Back end: a folder of NFS.")
@click.option("--ebs", metavar="DISK", default="", help="Back end: a disk of EBS, by CSI.")
@_dry_run_options
@pass_session
def volume(session: Session, /, name: str, **flags: Any) -> None:
    """Create a PersistentVolumeClaim for models, and print its storage URI.

    With a back end, a PersistentVolume that only this claim can use is created as well.
    `fnbuild model upload` fills the claim.
    """
    from fnbuild.platforms.kubeclient.connection import connect
    from fnbuild.platforms.storage.volumes import VolumeRequest, create_volume, parse_backend

    mode = flags["access_mode"]
    request = VolumeRequest(
        cluster_namespace(session),
        name,
        flags["size"],
        _ACCESS_MODES.get(mode, mode),
        flags["storage_class"],
        parse_backend(flags["host_path"], flags["node"], flags["nfs"], flags["ebs"]),
    )
    request.check()
    if flags["dry_run"]:
        _print_manifests(request.manifests(), flags["output"])
        return
    for text in create_volume(connect(session.connect_options), request):
        warn(text)
    note(f"created claim {name} in namespace {request.namespace}")
    click.echo(f"pvc://{name}")


@click.command(cls=Command)
@click.argument("name")
@click.option(
    "--type",
    "storage_type",
    type=click.Choice(_STORAGE_TYPES),
    required=True,
    help="The storage that the credentials are for.",
)
@click.option(
    "--from-file",
    multiple=True,
    metavar="KEY=FILE",
    help="Read the value of a key from a file. Repeatable.",
)
@click.option("--from-stdin", metavar="KEY", help="Read the value of a key from stdin.")
@click.option(
    "--service-account",
    metavar="NAME",
    default="",
    help="The ServiceAccount that gets the credentials. It is created if necessary.",
)
@click.option(
    "--role-arn",
    metavar="ARN",
    default="",
    help="A role of AWS for pods of the ServiceAccount (by default NAME), instead of a secret.",
)
@click.option("--host", metavar="NAME", default="", help="The host of https.")
@click.option("--endpoint", metavar="URL", default="", help="The server of S3, if not AWS.")
@click.option("--region", metavar="NAME", default="", help="The region of S3.")
@click.option("--use-https/--no-use-https", default=None, help="Use HTTPS for S3.")
@click.option("--verify-ssl/--no-verify-ssl", default=None, help="Check the certificate of S3.")
@click.option(
    "--virtual-bucket/--no-virtual-bucket", default=None, help="The host contains the bucket."
)
@click.option("--accelerate/--no-accelerate", default=None, help="Use S3 Transfer Acceleration.")
@click.option("--anonymous/--no-anonymous", default=None, help="Read public buckets of S3.")
@click.option("--ca-bundle", metavar="PATH", default="", help="Certificates of S3 in the pod.")
@click.option(
    "--ca-bundle-config-map", metavar="NAME", default="", help="ConfigMap with the certificates."
)
@_dry_run_options
@pass_session
def storage_secret(session: Session, /, name: str, **flags: Any) -> None:
    """Store credentials of a storage in a cluster, as KServe reads them.

    The keys are AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (s3), HF_TOKEN (hf), headers (https, a
    JSON object) and gcloud-application-credentials.json (gs). A value comes from a file, from stdin
    or from the environment variable of that name; for gs, from the file that
    GOOGLE_APPLICATION_CREDENTIALS names. With --dry-run, values are masked. A role of AWS
    (--role-arn) needs no keys: it is an annotation of the ServiceAccount.
    """
    from fnbuild.platforms.kubeclient.connection import connect
    from fnbuild.platforms.storage.credentials import (
        SECRET_KEYS,
        StorageSecret,
        account_manifest,
        store_credentials,
    )

    storage_type, account = flags["storage_type"], flags["service_account"]
    if flags["role_arn"]:
        _give_role(session, account or name, flags)
        return
    secret = StorageSecret(
        cluster_namespace(session),
        name,
        storage_type,
        _read_values(SECRET_KEYS[storage_type], flags),
        flags["host"],
        _s3_settings(flags),
    )
    secret.check()
    if flags["dry_run"]:
        manifests = [secret.manifest(masked=True)]
        if account:
            manifests.append(account_manifest(secret.namespace, account, [name]))
        _print_manifests(manifests, flags["output"])
        return
    new = store_credentials(connect(session.connect_options), secret, account)
    users = f"; ServiceAccount {account} uses it" if account else ""
    word = "created" if new else "updated"
    note(f"{word} secret {name} in namespace {secret.namespace} for {storage_type}{users}")


def _give_role(session: Session, account: str, flags: Mapping[str, Any]) -> None:
    from fnbuild.errors import UsageError
    from fnbuild.platforms.kubeclient.connection import connect
    from fnbuild.platforms.storage.credentials import StorageRole, account_manifest, store_role

    if flags["storage_type"] != "s3" or flags["from_file"] or flags["from_stdin"]:
        raise UsageError("--role-arn is an option of --type s3, and needs no keys")
    role = StorageRole(cluster_namespace(session), account, flags["role_arn"], _s3_settings(flags))
    role.check()
    if flags["dry_run"]:
        manifest = account_manifest(role.namespace, account, annotations=role.annotations())
        _print_manifests([manifest], flags["output"])
        return
    store_role(connect(session.connect_options), role)
    note(f"ServiceAccount {account} in namespace {role.namespace} has the role {role.arn}")


def _s3_settings(flags: Mapping[str, Any]) -> S3Settings:
    from fnbuild.errors import UsageError
    from fnbuild.platforms.storage.credentials import S3Settings

    names = ("endpoint", "region", *_SWITCHES, "ca_bundle", "ca_bundle_config_map")
    values = {name: flags[name] for name in names}
    if flags["storage_type"] != "s3" and any(value not in ("", None) for value in values.values()):
        option = next(name for name, value in values.items() if value not in ("", None))
        raise UsageError(f"--{option.replace('_', '-')} is an option of --type s3")
    return S3Settings(**values)


def _read_values(keys: tuple[str, ...], flags: Mapping[str, Any]) -> dict[str, str]:
    """Return the value of each key. Raises `UsageError` for missing and unknown ones."""
    from fnbuild.errors import UsageError

    files = dict(item.partition("=")[::2] for item in flags["from_file"])
    for key in (*files, *filter(None, [flags["from_stdin"]])):
        if key not in keys:
            raise UsageError(f"{key!r} is not a key of these credentials: {', '.join(keys)}")
    values = {}
    for key in keys:
        if key in files:
            values[key] = _read_file(Path(files[key]), key)
        elif key == flags["from_stdin"]:
            values[key] = sys.stdin.read().strip()
        else:
            values[key] = _environment_value(key)
        if not values[key]:
            raise UsageError(
                f"there is no value for {key}",
                hint=f"`--from-file {key}=FILE`, `--from-stdin {key}`, or set the variable"
                f" {_variable(key)}",
            )
    return values


def _variable(key: str) -> str:
    names = {
        "gcloud-application-credentials.json": "GOOGLE_APPLICATION_CREDENTIALS",
        "headers": "HTTPS_HEADERS",
    }
    return names.get(key, key)


def _environment_value(key: str) -> str:
    text = os.environ.get(_variable(key), "").strip()
    if text and _variable(key) == "GOOGLE_APPLICATION_CREDENTIALS":
        return _read_file(Path(text), key)
    return text


def _read_file(file: Path, key: str) -> str:
    from fnbuild.errors import InputError

    try:
        return file.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise InputError(f"cannot read {key} from {file}: {reason}") from None


def _print_manifests(manifests: list[Raw], output: str) -> None:
    from fnbuild.cli.output import print_documents

    if output == "json":
        print_value({"apiVersion": "v1", "kind": "List", "items": manifests}, output)
    else:
        print_documents(manifests)
