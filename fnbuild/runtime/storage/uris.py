"""Storage URIs as in KServe, such as `s3://bucket/path`, parsed and checked.

pvc://claim[/folder]      a folder of a PersistentVolumeClaim, mounted by Kubernetes
s3://bucket[/path]        an object in S3, or all objects below a path
gs://bucket[/path]        the same in Google Cloud Storage
https://host/path/file    one file; also http://
hf://owner/model[:revision]   a model of Hugging Face
oci://image               an image that contains the model, for manifests of KServe only
file:///folder            a folder or a file of this machine; a plain absolute path is the same
"""

import re
from typing import NamedTuple
from urllib.parse import urlsplit

URI_VARIABLE = "STORAGE_URI"
"""The environment variable of a function's model, as in containers of KServe.

Workers see the model's folder in it.
"""

SHA256_VARIABLE = "STORAGE_SHA256"
"""The environment variable of the expected sha256 of the model."""

BUCKET_SCHEMES = ("s3", "gs")
WEB_SCHEMES = ("https", "http")
OCI_SCHEMES = ("oci", "oci+native", "oci+fetch")
SCHEMES = ("pvc", "s3", "gs", "https", "http", "hf", "oci", "file")

KSERVE_SCHEMES = ("hdfs", "webhdfs", "modelscope")
"""Schemes that only KServe reads."""

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(?://)?")
_EXAMPLES = {
    "pvc": "pvc://claim/folder",
    "s3": "s3://bucket/folder",
    "gs": "gs://bucket/folder",
    "https": "https://host/folder/file.zip",
    "http": "http://host/folder/file.zip",
    "hf": "hf://owner/model or hf://owner/model:revision",
    "oci": "oci://registry/image:tag",
    "file": "file:///folder",
}
_LABEL = r"[a-z0-9]([a-z0-9-]*[a-z0-9])?"
_BUCKET_LABEL = r"[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?"
# The names of claims and buckets. Underscores are valid in buckets of Google, but not of S3.
_NAMES = {
    "pvc": (
        re.compile(r"(?=.{1,253}\Z)%s(\.%s)*\Z" % (_LABEL, _LABEL)),
        "a claim has lower-case letters, digits, '-' and '.'",
    ),
    "s3": (
        re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]\Z"),
        "a bucket of S3 has 3 to 63 lower-case letters, digits, '.' and '-'",
    ),
    "gs": (
        re.compile(r"(?=.{3,222}\Z)%s(\.%s)*\Z" % (_BUCKET_LABEL, _BUCKET_LABEL)),
        "a bucket has 3 to 63 lower-case letters, digits, '_', '.' and '-'",
    ),
}
_MODEL_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*\Z")
_REVISION = re.compile(r"[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*\Z")
_IMAGE = re.compile(r"[a-zA-Z0-9][\w.:-]*(/[\w.-]+)*(:[\w.-]+)?(@sha256:[0-9a-f]{64})?\Z")


class StorageUriError(ValueError):
    """An invalid storage URI. `hint` is the remedy."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class StorageUri(NamedTuple):
    """A storage URI. `location` is the claim, the bucket, the host, `owner/model` or the image.

    `path` has no slash at its ends, except that the path of a file is absolute. `query` is that of
    a web address.
    """

    scheme: str
    location: str
    path: str
    revision: str = ""
    query: str = ""

    def __str__(self) -> str:
        if self.scheme == "file":
            return "file://" + self.path
        text = "%s://%s" % (self.scheme, self.location)
        if self.path:
            text += "/" + self.path
        if self.revision:
            text += ":" + self.revision
        return text + ("?" + self.query if self.query else "")

    @property
    def printable(self) -> str:
        """The URI without its query, which may be a signature."""
        return str(self._replace(query="…" if self.query else ""))

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2]

    def child(self, path: str) -> "StorageUri":
        """Return the URI of a path below this one."""
        return self._replace(path=(self.path + "/" + path).lstrip("/"))


def parse_storage_uri(text: str) -> StorageUri:
    """Return the parsed URI. Raises StorageUriError for the first mistake."""
    text = text.strip()
    if text.startswith("/"):
        text = "file://" + text
    scheme = _parse_scheme(text)
    if any(character <= " " or character == "\x7f" for character in text) and scheme != "file":
        raise _invalid(text, scheme, "it contains a blank or a control character")
    rest = text.partition("://")[2]
    if scheme in WEB_SCHEMES:
        return _parse_web(text, scheme)
    if ("?" in rest or "#" in rest) and scheme != "file":
        raise _invalid(text, scheme, "it cannot have a query or a fragment")
    if scheme in OCI_SCHEMES:
        return _parse_image(text, scheme, rest)
    parse = {"file": _parse_file, "hf": _parse_hugging_face}.get(scheme)
    return _parse_location(text, scheme, rest) if parse is None else parse(text, rest)


def model_path(text: str, folder: str) -> str:
    """Return the path of the model at a URI; `folder` is that of downloads and mounts."""
    try:
        uri = parse_storage_uri(text)
    except StorageUriError:
        return text  # the download reports the error
    return uri.path if uri.scheme == "file" else folder


def _parse_scheme(text: str) -> str:
    match = _SCHEME.match(text)
    if match is None:
        raise StorageUriError(
            "%r is not a storage URI" % text, "as in %s" % ", ".join(_EXAMPLES[s] for s in SCHEMES)
        )
    scheme = match.group(1).lower()
    if scheme not in SCHEMES and scheme not in OCI_SCHEMES:
        raise StorageUriError(
            "%r: the scheme %r is not supported" % (_without_userinfo(text), scheme),
            "use one of: %s" % ", ".join(name + "://" for name in SCHEMES),
        )
    if not match.group().endswith("//"):
        raise _invalid(text, scheme, "'//' is missing after '%s:'" % scheme)
    return scheme


def _parse_file(text: str, rest: str) -> StorageUri:
    if not rest.startswith("/"):
        raise _invalid(text, "file", "its path is not absolute: file:/// has three slashes")
    return StorageUri("file", "", _checked_path(text, rest, "file") or "/")


def _parse_image(text: str, scheme: str, rest: str) -> StorageUri:
    if not _IMAGE.match(rest):
        raise _invalid(text, "oci", "%r is not the name of an image" % rest)
    return StorageUri(scheme, rest, "")


def _parse_location(text: str, scheme: str, rest: str) -> StorageUri:
    """Parse a claim or a bucket, and the path in it."""
    location, _slash, path = rest.partition("/")
    if "@" in location or ":" in location:
        raise _invalid(_without_userinfo(text), scheme, "it cannot contain credentials or a port")
    kind = "claim" if scheme == "pvc" else "bucket"
    if not location:
        raise _invalid(text, scheme, "it names no " + kind)
    pattern, hint = _NAMES[scheme]
    if not pattern.match(location):
        message = "%r: %r is not the name of a %s" % (text, location, kind)
        raise StorageUriError(message, hint)
    return StorageUri(scheme, location, _checked_path(text, path, scheme))


def _parse_web(text: str, scheme: str) -> StorageUri:
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise _invalid(_without_userinfo(text), scheme, "it is not a URL") from None
    if parts.username is not None:
        raise StorageUriError(
            "%r cannot contain a user or a password" % _without_userinfo(text),
            "store credentials with `fnbuild create storage-secret --type https`",
        )
    if not host:
        raise _invalid(text, scheme, "it names no host")
    if parts.fragment:
        raise _invalid(text, scheme, "it cannot have a fragment")
    path = _checked_path(text, parts.path, scheme).lstrip("/")
    if not path or path.endswith("/"):
        raise _invalid(text, scheme, "it names no file")
    location = "[%s]" % host if ":" in host else host
    return StorageUri(scheme, location + (":%d" % port if port else ""), path, query=parts.query)


def _parse_hugging_face(text: str, rest: str) -> StorageUri:
    model, colon, revision = rest.rstrip("/").partition(":")
    parts = model.split("/")
    if len(parts) != 2 or not all(_MODEL_PART.match(part) for part in parts):
        raise _invalid(text, "hf", "it is not exactly an owner and a model")
    if colon and (not _REVISION.match(revision) or ".." in revision):
        raise _invalid(text, "hf", "%r is not a revision" % revision)
    return StorageUri("hf", model, "", revision)


def _checked_path(text: str, path: str, scheme: str) -> str:
    """Return the path without slashes at its end. Raises StorageUriError for `..` and `//`."""
    segments = path.rstrip("/").split("/")
    if "\0" in path:
        raise _invalid(text, scheme, "its path contains a null character")
    for segment in segments[1:] if scheme in ("file", *WEB_SCHEMES) else segments:
        if segment in (".", "..") or (not segment and len(segments) > 1):
            raise _invalid(text, scheme, "its path has the segment %r" % segment)
    return path if scheme in WEB_SCHEMES else path.rstrip("/")


def _invalid(text: str, scheme: str, reason: str) -> StorageUriError:
    if scheme in WEB_SCHEMES:
        # Queries may be signatures.
        text = re.sub(r"\?[^#]*", "?…", _without_userinfo(text))
    return StorageUriError(
        "%r is not a valid storage URI: %s" % (text, reason), "as in %s" % _EXAMPLES[scheme]
    )


def _without_userinfo(text: str) -> str:
    return re.sub(r"(?<=://)[^/@]*@", "", text)
