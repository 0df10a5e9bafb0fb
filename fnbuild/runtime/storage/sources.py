"""The files of a model in storage, and the requests that read them."""

import abc
import fnmatch
import json
import re
from typing import Callable, Dict, List, Mapping, NamedTuple
from urllib.parse import quote

from .errors import StorageError
from .uris import StorageUri
from .web import StatusError, WebClient, decode_json, header_mapping, is_loopback, read_document

Environment = Mapping[str, str]

_HUGGING_FACE = "https://huggingface.co"
_NEXT_PAGE = re.compile(r'<([^>]+)>;\s*rel="next"')
_MAX_FILES = 100_000


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
        return HuggingFaceSource(uri, environment)
    if uri.scheme in ("https", "http"):
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


class HuggingFaceSource(StorageSource):
    """A model of Hugging Face. HF_TOKEN is for private models, HF_ENDPOINT for mirrors."""

    def __init__(self, uri: StorageUri, environment: Environment) -> None:
        self._uri = uri
        self._endpoint = (environment.get("HF_ENDPOINT") or _HUGGING_FACE).rstrip("/")
        self._token = environment.get("HF_TOKEN", "").strip()
        self._commit = ""
        self.client = WebClient()

    def files(self) -> List[RemoteFile]:
        model, revision = self._uri.location, quote(self._uri.revision or "main", safe="")
        address = "%s/api/models/%s" % (self._endpoint, model)
        info = self._get("%s/revision/%s" % (address, revision), lambda _page: None)
        self._commit = str(info.get("sha") or revision)
        files: List[RemoteFile] = []

        def add(page: List[Dict[str, object]]) -> None:
            for entry in page:
                if entry.get("type") == "file":
                    files.append(_hugging_face_file(entry))

        self._get("%s/tree/%s?recursive=true" % (address, quote(self._commit, safe="")), add)
        if not files:
            raise empty_error(self._uri)
        return files

    def url(self, file: RemoteFile) -> str:
        parts = (self._endpoint, self._uri.location, quote(self._commit, safe=""), quote(file.key))
        return "%s/%s/resolve/%s/%s" % parts

    def headers(self) -> Dict[str, str]:
        return self._authorization()

    def _authorization(self) -> Dict[str, str]:
        return {"Authorization": "Bearer " + self._token} if self._token else {}

    def _get(self, url: str, add: Callable[[List[Dict[str, object]]], None]) -> Dict[str, object]:
        """Read a document with all its pages; return the first if it is an object."""
        count = 0
        while url:
            try:
                with self.client.open(url, self._authorization()) as response:
                    page = decode_json(url, read_document(url, response))
                    link = _NEXT_PAGE.search(response.headers.get("Link") or "")
            except StatusError as error:
                raise self._explained(error) from None
            if isinstance(page, dict):
                return page
            add(page)
            count += len(page)
            if count > _MAX_FILES:
                raise StorageError("%s has more than %d files" % (self._uri, _MAX_FILES))
            following = link.group(1) if link else ""
            url = following if following.startswith(self._endpoint + "/") else ""
        return {}

    def _explained(self, error: StatusError) -> StorageError:
        if error.status not in (401, 403, 404):
            return error
        hint = "check owner, model and revision"
        if error.status != 404 or not self._token:
            hint += "; private and gated models need the token of a user with access in HF_TOKEN"
        return StorageError("%s cannot be read: %s" % (self._uri, error.status), hint)


def _hugging_face_file(entry: Mapping[str, object]) -> RemoteFile:
    path = str(entry.get("path", ""))
    large = entry.get("lfs")
    if not isinstance(large, dict):
        return RemoteFile(path, path, _size(entry.get("size")), str(entry.get("oid", "")))
    digest = str(large.get("oid", ""))
    return RemoteFile(path, path, _size(large.get("size")), digest, digest)


def _size(value: object) -> int:
    return int(str(value)) if str(value).isdecimal() else -1
