"""Credentials of storage as KServe reads them.

They are a Secret and the ServiceAccount that names it, or a role of AWS, which is an annotation of
the ServiceAccount.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from fnbuild.errors import ConflictError, FnbuildError, InputError
from fnbuild.function.types import Raw
from fnbuild.platforms.kubeclient import kinds
from fnbuild.platforms.kubeclient.cluster import Cluster

MASK = "********"
_PREFIX = "serving.kserve.io/s3-"
_LABELS = {"app.kubernetes.io/managed-by": "fnbuild"}
_ROLE_ANNOTATION = "eks.amazonaws.com/role-arn"
_ROLE = re.compile(r"arn:aws[a-z-]*:iam::\d{12}:role/[\w+=,.@/-]+")
_NAME = re.compile(r"(?=.{1,253}\Z)[a-z0-9]([a-z0-9.-]*[a-z0-9])?\Z")
_ENDPOINT = re.compile(r"(https?://)?([\w.-]+|\[[0-9a-fA-F:]+\])(:[0-9]{1,5})?/?\Z", re.ASCII)
GOOGLE_KEY = "gcloud-application-credentials.json"

SECRET_KEYS: Mapping[str, tuple[str, ...]] = {
    "s3": ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
    "gs": (GOOGLE_KEY,),
    "hf": ("HF_TOKEN",),
    "https": ("headers",),
}
"""The keys of the Secret for each type of storage, all of them required."""


@dataclass(frozen=True, slots=True)
class S3Settings:
    """The server of S3, as annotations of the Secret. None and "" leave a setting out."""

    endpoint: str = ""
    region: str = ""
    use_https: bool | None = None
    verify_ssl: bool | None = None
    virtual_bucket: bool | None = None
    accelerate: bool | None = None
    anonymous: bool | None = None
    ca_bundle: str = ""
    ca_bundle_config_map: str = ""

    def annotations(self) -> dict[str, str]:
        """Return the annotations. Raises `InputError` for an invalid endpoint."""
        host, use_https = self.endpoint, self.use_https
        if host and not _ENDPOINT.match(host):
            raise InputError(
                f"--endpoint {host!r} is not the address of a server",
                hint="as in minio.storage:9000",
            )
        if "://" in host:
            parts = urlsplit(host)
            secure = parts.scheme == "https"
            if use_https not in (None, secure):
                raise InputError(f"the endpoint {host} contradicts the option for HTTPS")
            host, use_https = parts.netloc, secure
        values: dict[str, str | bool | None] = {
            "endpoint": host,
            "region": self.region,
            "usehttps": use_https,
            "verifyssl": self.verify_ssl,
            "usevirtualbucket": self.virtual_bucket,
            "useaccelerate": self.accelerate,
            "useanoncredential": self.anonymous,
            "cabundle": self.ca_bundle,
            "cabundle-configmap": self.ca_bundle_config_map,
        }
        return {
            _PREFIX + name: str(int(value)) if isinstance(value, bool) else value
            for name, value in values.items()
            if value not in (None, "") and value is not None
        }


@dataclass(frozen=True, slots=True)
class StorageSecret:
    """Credentials for one type of storage. `values` are by the keys of the Secret.

    `host` is that of https; `s3` is for S3.
    """

    namespace: str
    name: str
    storage_type: str
    values: Mapping[str, str] = field(repr=False)
    host: str = ""
    s3: S3Settings = S3Settings()

    def check(self) -> None:
        """Raise `InputError` for a value that the storage cannot use; never with the value."""
        _check_name("a Secret", self.name)
        if self.storage_type == "https" and not re.fullmatch(r"[\w.-]+(:\d+)?", self.host):
            raise InputError("credentials for https need the name of the host", hint="`--host`")
        for key, value in self.values.items():
            if not value:
                raise InputError(f"the value of {key} is empty")
        if self.storage_type in ("gs", "https"):
            (key,) = SECRET_KEYS[self.storage_type]
            _check_json(key, self.values[key])

    def manifest(self, *, masked: bool = False) -> Raw:
        """Return the Secret; with `masked` without its values."""
        values = dict(self.values)
        if self.storage_type == "https":
            values["https-host"] = self.host
        annotations = self.s3.annotations() if self.storage_type == "s3" else {}
        metadata: Raw = {"name": self.name, "namespace": self.namespace, "labels": dict(_LABELS)}
        if annotations:
            metadata["annotations"] = annotations
        if masked:
            hidden = {key: self.host if key == "https-host" else MASK for key in values}
            return kinds.SECRET.manifest(metadata, type="Opaque", stringData=hidden)
        data = {key: base64.b64encode(text.encode()).decode() for key, text in values.items()}
        return kinds.SECRET.manifest(metadata, type="Opaque", data=data)


@dataclass(frozen=True, slots=True)
class StorageRole:
    """A role of AWS IAM with which the pods of a ServiceAccount read S3, without a Secret."""

    namespace: str
    account: str
    arn: str
    s3: S3Settings = S3Settings()

    def check(self) -> None:
        """Raise `InputError` for an invalid name or role."""
        _check_name("a ServiceAccount", self.account)
        if not _ROLE.fullmatch(self.arn):
            raise InputError(
                f"{self.arn!r} is not a role of AWS",
                hint="as in arn:aws:iam::123456789012:role/models",
            )

    def annotations(self) -> dict[str, str]:
        """Return the annotations of the ServiceAccount."""
        return {_ROLE_ANNOTATION: self.arn, **self.s3.annotations()}


def _check_name(what: str, name: str) -> None:
    if not _NAME.match(name):
        hint = "use lower-case letters, digits, '-' and '.'"
        raise InputError(f"{name!r} is not the name of {what}", hint=hint)


def _check_json(key: str, text: str) -> None:
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        kind = "the JSON key of an account" if key == GOOGLE_KEY else "a JSON object of headers"
        raise InputError(f"the value of {key} is not {kind}")


def account_manifest(
    namespace: str,
    name: str,
    secrets: Sequence[str] = (),
    annotations: Mapping[str, str] | None = None,
) -> Raw:
    """Return the ServiceAccount that names the Secrets. Raises `InputError` for its name."""
    _check_name("a ServiceAccount", name)
    metadata: Raw = {"name": name, "namespace": namespace}
    if annotations:
        metadata["annotations"] = dict(annotations)
    references = [{"name": secret} for secret in secrets]
    return kinds.SERVICE_ACCOUNT.manifest(metadata, **({"secrets": references} if secrets else {}))


def store_credentials(cluster: Cluster, secret: StorageSecret, account: str) -> bool:
    """Store the Secret and add it to the ServiceAccount, if any; return False if it existed.

    Raises `ConflictError` for a Secret that fnbuild does not manage. A new Secret is removed again
    if the ServiceAccount cannot get it.
    """
    secret.check()
    live = cluster.get(kinds.SECRET, secret.namespace, secret.name)
    labels = ((live or {}).get("metadata") or {}).get("labels") or {}
    if live is not None and not labels.items() >= _LABELS.items():
        raise ConflictError(
            f"Secret {secret.name} in namespace {secret.namespace} is not managed by fnbuild",
            hint="choose another name",
        )
    cluster.apply(secret.manifest(), force=live is not None)
    try:
        if account:
            _add_to_account(cluster, secret, account)
    except FnbuildError:
        if live is None:
            cluster.delete(kinds.SECRET, secret.namespace, secret.name)
        raise
    return live is None


def _add_to_account(cluster: Cluster, secret: StorageSecret, account: str) -> None:
    names, annotations = _account_credentials(cluster, secret.namespace, account)
    if secret.name not in names:
        names.append(secret.name)
        cluster.apply(account_manifest(secret.namespace, account, names, annotations))


def store_role(cluster: Cluster, role: StorageRole) -> None:
    """Give the ServiceAccount the role, and create the account if necessary."""
    role.check()
    names, _ = _account_credentials(cluster, role.namespace, role.account)
    cluster.apply(account_manifest(role.namespace, role.account, names, role.annotations()))


def _account_credentials(
    cluster: Cluster, namespace: str, name: str
) -> tuple[list[str], dict[str, str]]:
    """Return the Secrets of a ServiceAccount, and the annotations of its role.

    Server-side apply would remove those that an earlier call has added.
    """
    live = cluster.get(kinds.SERVICE_ACCOUNT, namespace, name) or {}
    annotations = (live.get("metadata") or {}).get("annotations") or {}
    return [str(item.get("name")) for item in live.get("secrets") or []], {
        key: text
        for key, text in annotations.items()
        if key == _ROLE_ANNOTATION or key.startswith(_PREFIX)
    }
