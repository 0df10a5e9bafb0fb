"""The files of a model in storage, and the requests that read them."""

import abc
import fnmatch
import json
from typing import Dict, List, Mapping, NamedTuple

from .errors import StorageError
from .uris import WEB_SCHEMES, StorageUri
from .web import StatusError, WebClient, header_mapping, is_loopback

Environment = Mapping[str, str]


class RemoteFile(NamedTuple):
    """A file of a model. `path` is relative to the model's folder, `key` is the server's name.

    `size` is -1 if it is unknown. `version` changes with the content: an ETag in quotes, or another
    text; "" is unknown. `sha256` is hexadecimal, or "".
    """

    path: str
    key: str
    size: int
    version: str
    sha256: str = ""


class StorageSource(abc.ABC):
    """A model in storage."""

    client: WebClient

    @abc.abstractmethod
    def files(self) -> List[RemoteFile]:
        """Return the files. Raises StorageError if there are none."""

    @abc.abstractmethod
    def url(self, file: RemoteFile) -> str:
        """Return the URL of a file, signed for a request that follows soon."""

    def headers(self) -> Dict[str, str]:
        """Return the headers of a request for a file."""
        return {}


def create_source(uri: StorageUri, environment: Environment) -> StorageSource:
    """Return the model at a URI that can be downloaded; credentials are in the environment."""
    # Imported on use: most functions need none of them.
    if uri.scheme == "s3":
        from .s3 import S3Source

        return S3Source(uri, environment)
    if uri.scheme == "gs":
        from .gcs import GoogleSource

        return GoogleSource(uri, environment)
    if uri.scheme == "hf":
        from .hugging_face import HuggingFaceSource

        return HuggingFaceSource(uri, environment)
    if uri.scheme in WEB_SCHEMES:
        return WebSource(uri, environment)
    raise StorageError("%s cannot be downloaded" % str(uri), "use s3, gs, https or hf")


def bucket_file_path(key: str, prefix: str) -> str:
    """Return the path of an object relative to the model, as KServe does; "" if it is not in it.

    An object whose key is the prefix itself has its own name.
    """
    if key.endswith("/"):
        return ""  # the marker of an empty folder
    if not prefix:
        return key
    if key == prefix:
        return key.rpartition("/")[2]
    return key[len(prefix) + 1 :] if key.startswith(prefix + "/") else ""


def empty_error(uri: StorageUri) -> StorageError:
    """Return the error for a model without files."""
    return StorageError(
        "there are no files at %s" % str(uri),
        "`fnbuild model ls %s://%s`" % (uri.scheme, uri.location),
    )


def selected_files(files: List[RemoteFile], environment: Environment) -> List[RemoteFile]:
    """Return the files that STORAGE_ALLOW_PATTERNS and STORAGE_IGNORE_PATTERNS select."""
    allowed = _patterns(environment.get("STORAGE_ALLOW_PATTERNS", ""))
    ignored = _patterns(environment.get("STORAGE_IGNORE_PATTERNS", ""))

    def matches(path: str, patterns: List[str]) -> bool:
        return any(fnmatch.fnmatchcase(path, pattern) for pattern in patterns)

    return [
        file
        for file in files
        if (not allowed or matches(file.path, allowed)) and not matches(file.path, ignored)
    ]


def _patterns(text: str) -> List[str]:
    try:
        values = json.loads(text)
    except ValueError:
        values = text.split(",")
    items = values if isinstance(values, list) else [values]
    return [str(item).strip() for item in items if str(item).strip()]


class WebSource(StorageSource):
    """One file of a web server."""

    def __init__(self, uri: StorageUri, environment: Environment) -> None:
        self._uri = uri
        self.client = WebClient()
        variable = uri.location.rpartition(":")[0] or uri.location
        names = ("%s-headers" % uri.location, "%s-headers" % variable)
        self._headers: Dict[str, str] = {}
        for name in names:
            if environment.get(name):
                self._headers = header_mapping(environment[name], name)
        host = variable.strip("[]")
        if uri.scheme == "http" and not is_loopback(host) and not environment.get("STORAGE_SHA256"):
            raise StorageError(
                "%s cannot be used: with plain http, others on the network can change the model"
                % uri.printable,
                "use https, or set STORAGE_SHA256 to the sha256 of the file",
            )

    def files(self) -> List[RemoteFile]:
        url = str(self._uri)
        try:
            with self.client.open(url, self._headers, method="HEAD") as response:
                headers = response.headers
        except StatusError as error:
            if error.status not in (403, 405, 501):  # of servers without HEAD
                raise
            return [RemoteFile(self._uri.name, url, -1, "")]
        length = headers.get("Content-Length", "")
        size = int(length) if length.isdecimal() else -1
        tag = headers.get("ETag", "")
        version = "" if tag.startswith("W/") else tag
        modified = headers.get("Last-Modified", "")
        if not version and modified:
            version = "%s %d" % (modified, size)
        return [RemoteFile(self._uri.name, url, size, version)]

    def url(self, file: RemoteFile) -> str:
        return file.key

    def headers(self) -> Dict[str, str]:
        return dict(self._headers)
