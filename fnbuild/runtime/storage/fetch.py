"""Download a model into a folder, so that an interrupted download goes on where it ended.

FOLDER/…                  the model's files; each appears when it is complete and checked
FOLDER/.fnbuild/index     versions and hashes of the files, from which the next start skips them
FOLDER/.fnbuild/parts/    incomplete files; their names depend on the version
"""

import contextlib
import fcntl
import hashlib
import http.client
import json
import os
import shutil
import time
from typing import IO, Any, Callable, Dict, Iterator, List, Mapping, NamedTuple, Set

from .digests import file_sha256, model_sha256
from .errors import StorageError
from .sources import RemoteFile, StorageSource, create_source, selected_files
from .unpacking import is_archive, unpack_archive
from .uris import (
    OCI_SCHEMES,
    SHA256_VARIABLE,
    URI_VARIABLE,
    StorageUri,
    StorageUriError,
    parse_storage_uri,
)
from .web import StatusError, connection_error

_STATE = ".fnbuild"
_CHUNK = 1 << 20
_ATTEMPTS = 5
_FIRST_DELAY = 0.5
_PROGRESS_SECONDS = 2.0

Report = Callable[[str], None]


class ModelRequest(NamedTuple):
    """A model to download. `sha256` is the expected hash, or ""."""

    uri: StorageUri
    sha256: str
    folder: str
    environment: Mapping[str, str]


class FetchedModel(NamedTuple):
    """A model on the disk. `hashes` are those of its files as they were downloaded, by path."""

    path: str
    hashes: Dict[str, str]


def model_request(environment: Mapping[str, str], folder: str) -> ModelRequest:
    """Return the request that STORAGE_URI and STORAGE_SHA256 describe."""
    try:
        uri = parse_storage_uri(environment[URI_VARIABLE])
    except StorageUriError as error:
        raise StorageError("%s: %s" % (URI_VARIABLE, error.message), error.hint) from None
    digest = environment.get(SHA256_VARIABLE, "").strip().lower()
    if digest and (len(digest) != 64 or set(digest) - set("0123456789abcdef")):
        text = "%s: %r is not a sha256" % (SHA256_VARIABLE, digest[:80])
        raise StorageError(text, "it has 64 hexadecimal digits")
    return ModelRequest(uri, digest, folder, environment)


def fetch_model(request: ModelRequest, report: Report) -> FetchedModel:
    """Return the model on the disk; download what is missing. Raises StorageError."""
    uri = request.uri
    if uri.scheme == "file":
        return _local_model(request)
    if uri.scheme == "pvc" or uri.scheme in OCI_SCHEMES:
        # The platform mounts it.
        return _mounted_model(request)
    try:
        os.makedirs(os.path.join(request.folder, _STATE, "parts"), exist_ok=True)
        with _locked(os.path.join(request.folder, _STATE, "lock"), report):
            return _Download(request, create_source(uri, request.environment), report).run()
    except OSError as problem:
        raise StorageError(
            "the model cannot be stored in %s: %s" % (request.folder, problem.strerror),
            "mount a writable volume with enough space there, such as an emptyDir",
        ) from None


def _mounted_model(request: ModelRequest) -> FetchedModel:
    uri, folder = request.uri, request.folder
    if not os.path.isdir(folder):
        hint = "only KServe mounts images; copy the model to a bucket or a claim"
        if uri.scheme == "pvc":
            hint = "claims exist in clusters only; elsewhere use a bucket or a folder"
        raise StorageError("%s is not mounted at %s" % (uri, folder), hint)
    if not os.listdir(folder):
        raise StorageError(
            "there are no files at %s" % str(uri), "`fnbuild model upload FOLDER %s`" % str(uri)
        )
    return _checked(request, FetchedModel(folder, {}))


def _local_model(request: ModelRequest) -> FetchedModel:
    path = request.uri.path
    if not os.path.exists(path):
        raise StorageError("%s does not exist" % path, "mount or copy the model there")
    return _checked(request, FetchedModel(path, {}))


def _checked(request: ModelRequest, model: FetchedModel) -> FetchedModel:
    """Return the model after a check of its hash; read the files if they have no hashes yet."""
    if request.sha256:
        hashes = model.hashes or local_hashes(model.path)
        digest = model_sha256(hashes)
        if digest != request.sha256:
            raise StorageError(
                "%s is not the expected model: its sha256 is %s, not %s"
                % (request.uri.printable, digest, request.sha256),
                "correct %s if the change is intended" % SHA256_VARIABLE,
            )
        return FetchedModel(model.path, hashes)
    return model


def local_hashes(path: str) -> Dict[str, str]:
    """Return the sha256 of a file, or of all files in a folder, by relative path."""
    if os.path.isfile(path):
        return {os.path.basename(path): file_sha256(path)}
    hashes = {}
    for folder, folders, names in os.walk(path):
        folders[:] = [name for name in folders if name != _STATE]
        for name in names:
            file = os.path.join(folder, name)
            hashes[os.path.relpath(file, path)] = file_sha256(file)
    return hashes


@contextlib.contextmanager
def _locked(path: str, report: Report) -> Iterator[None]:
    """Hold a lock against other processors that download to the same folder."""
    with open(path, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report("waiting for another download of the model")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _short_list(names: List[str]) -> str:
    return ", ".join(sorted(names)[:5]) + (" …" if len(names) > 5 else "")


class _Download:
    """The download of one model."""

    def __init__(self, request: ModelRequest, source: StorageSource, report: Report) -> None:
        self._request = request
        self._folder = request.folder
        self._source = source
        self._report = report
        self._index_path = os.path.join(request.folder, _STATE, "index")
        self._index = _read_index(self._index_path)
        self._total = self._received = 0
        self._reported = time.monotonic()

    def run(self) -> FetchedModel:
        available = self._source.files()
        files = selected_files(available, self._request.environment)
        if not files:
            raise StorageError(
                "the patterns select no file of %s: it has %s"
                % (self._request.uri.printable, _short_list([file.path for file in available])),
                "name a model or patterns that fit each other",
            )
        for file in files:
            self._check_path(file.path)
        missing = [file for file in files if not self._is_current(file)]
        self._total = sum(max(file.size, 0) for file in missing)
        self._check_space(missing)
        if missing:
            text = "downloading %s: %d files, %s"
            size = format_mebibytes(self._total)
            self._report(text % (self._request.uri.printable, len(missing), size))
        self._remove_old({file.path for file in files})
        for file in missing:
            self._fetch(file)
        hashes = {file.path: str(self._index[file.path]["sha256"]) for file in files}
        # Checked before the archive is unpacked.
        model = _checked(self._request, FetchedModel(self._folder, hashes))
        if len(files) == 1 and is_archive(files[0].path):
            self._unpack(files[0].path)
        shutil.rmtree(os.path.join(self._folder, _STATE, "parts"), ignore_errors=True)
        return model

    def _check_path(self, path: str) -> None:
        if not _is_storable(path):
            text = "%s has a file that cannot be stored: %r"
            raise StorageError(
                text % (self._request.uri.printable, path[:120]), "give it another name"
            )

    def _check_space(self, missing: List[RemoteFile]) -> None:
        done = sum(os.path.getsize(p) for p in map(self._part, missing) if os.path.exists(p))
        free = shutil.disk_usage(self._folder).free
        if self._total - done > free:
            sizes = (self._request.uri.printable, format_mebibytes(self._total - done))
            raise StorageError(
                "%s needs %s" % sizes + ", but %s has %s" % (self._folder, format_mebibytes(free)),
                "mount a larger volume there",
            )

    def _part(self, file: RemoteFile) -> str:
        identity = "%s\n%s\n%s" % (self._request.uri, file.path, file.version)
        name = hashlib.sha256(identity.encode("utf-8", "surrogateescape")).hexdigest()[:32]
        return os.path.join(self._folder, _STATE, "parts", name)

    def _is_current(self, file: RemoteFile) -> bool:
        entry = self._index.get(file.path)
        if entry is None or not file.version or entry["version"] != file.version:
            return False
        paths = entry.get("unpacked") or [file.path]
        places = [os.path.join(self._folder, path) for path in paths]
        if not all(map(os.path.isfile, places)):
            return False
        return bool(entry.get("unpacked")) or os.path.getsize(places[0]) == entry["size"]

    def _fetch(self, file: RemoteFile) -> None:
        """Download one file, with further attempts while something arrives."""
        part = self._part(file)
        if not file.version and os.path.exists(part):
            os.unlink(part)  # it may be a part of other content
        attempt = 0
        while True:
            before = os.path.getsize(part) if os.path.exists(part) else 0
            try:
                self._receive(file, part)
                break
            except StorageError as error:
                arrived = os.path.exists(part) and os.path.getsize(part) > before
                attempt = 1 if arrived else attempt + 1
                if not error.transient or attempt >= _ATTEMPTS:
                    raise
                self._report("%s; trying again" % error.message)
                time.sleep(_FIRST_DELAY * 2 ** (attempt - 1))
        digest = file_sha256(part)
        if file.sha256 and digest != file.sha256:
            os.unlink(part)
            raise StorageError(
                "%s of %s is damaged: its sha256 is %s, not %s"
                % (file.path, self._request.uri.printable, digest, file.sha256),
                "upload it again",
            )
        target = os.path.join(self._folder, file.path)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        size = os.path.getsize(part)
        os.replace(part, target)
        self._index[file.path] = {"version": file.version, "size": size, "sha256": digest}
        self._write_index()

    def _receive(self, file: RemoteFile, part: str) -> None:
        with open(part, "ab") as target:
            offset = target.tell()
            if file.size >= 0 and offset >= file.size:
                target.truncate(file.size)
                return
            headers = self._source.headers()
            if file.version.startswith('"'):
                headers["If-Match"] = file.version
            if offset:
                headers["Range"] = "bytes=%d-" % offset
            url = self._source.url(file)
            try:
                response = self._source.client.open(url, headers)
            except StatusError as error:
                if error.status == 416:  # the part is longer than the file
                    target.truncate(0)
                    raise StorageError(error.message, error.hint, transient=True) from None
                if error.status == 412:
                    text = "%s of %s has changed during the download"
                    raise StorageError(
                        text % (file.path, self._request.uri.printable), "try again"
                    ) from None
                raise
            with response:
                if offset and not _continues(response, offset):
                    target.truncate(0)
                    offset = 0
                self._received += offset
                self._copy(url, response, target)
            size = target.tell()
        expected = file.size if file.size >= 0 else offset + int(_length(response))
        if size < expected:
            text = "%s: the connection ended after %d of %d bytes"
            raise StorageError(text % (file.path, size, expected), "try again", transient=True)
        if size > expected > 0:
            os.unlink(part)
            text = "%s has %d bytes instead of %d"
            raise StorageError(text % (file.path, size, expected), "try again")

    def _copy(self, url: str, response: Any, target: IO[bytes]) -> None:
        while True:
            try:
                chunk = response.read(_CHUNK)
            except (OSError, http.client.HTTPException) as problem:
                raise connection_error(url, problem) from None
            if not chunk:
                return
            target.write(chunk)
            self._received += len(chunk)
            now = time.monotonic()
            if now - self._reported > _PROGRESS_SECONDS:
                self._reported = now
                sizes = (format_mebibytes(self._received), format_mebibytes(self._total))
                self._report("downloading %s: %s of %s" % (self._request.uri.printable, *sizes))

    def _unpack(self, path: str) -> None:
        archive = os.path.join(self._folder, path)
        entry = self._index[path]
        if not os.path.exists(archive):
            return  # unpacked by an earlier start
        self._report("unpacking %s" % path)
        temporary = os.path.join(self._folder, _STATE, "unpacked")
        shutil.rmtree(temporary, ignore_errors=True)
        os.makedirs(temporary)
        members = unpack_archive(archive, temporary)
        os.unlink(archive)
        for member in members:
            self._check_path(member)
            target = os.path.join(self._folder, member)
            os.makedirs(os.path.dirname(target), exist_ok=True)
            os.replace(os.path.join(temporary, member), target)
        shutil.rmtree(temporary, ignore_errors=True)
        entry["unpacked"] = members
        self._write_index()

    def _remove_old(self, kept: Set[str]) -> None:
        """Remove files of an earlier model or version, so that they are not loaded."""
        for path in [path for path in self._index if path not in kept]:
            for old in self._index.pop(path).get("unpacked") or [path]:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(os.path.join(self._folder, old))
        self._write_index()

    def _write_index(self) -> None:
        temporary = self._index_path + ".new"
        with open(temporary, "w", encoding="utf-8") as file:
            json.dump(self._index, file)
        os.replace(temporary, self._index_path)


def stored_sha256(folder: str) -> str:
    """Return the sha256 of the model that was downloaded to a folder last, as of its index."""
    index = _read_index(os.path.join(folder, _STATE, "index"))
    return model_sha256({path: str(entry.get("sha256")) for path, entry in index.items()})


def _read_index(path: str) -> Dict[str, Dict[str, Any]]:
    """Return the entries by path, without those that could lead out of the folder."""
    try:
        with open(path, encoding="utf-8") as file:
            entries = {str(name): dict(entry) for name, entry in json.load(file).items()}
        return {
            name: entry
            for name, entry in entries.items()
            if all(map(_is_storable, [name, *entry.get("unpacked", [])]))
        }
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _is_storable(path: str) -> bool:
    parts = path.split("/")
    return "\0" not in path and not {"", ".", "..", _STATE} & set(parts)


def _continues(response: Any, offset: int) -> bool:
    """Return True if the response is the rest of the file from the offset on."""
    content_range = str(response.headers.get("Content-Range") or "")
    return response.status == 206 and content_range.startswith("bytes %d-" % offset)


def _length(response: Any) -> str:
    length = str(response.headers.get("Content-Length") or "")
    return length if length.isdecimal() else "0"


def format_mebibytes(count: int) -> str:
    """Return a size such as `3.5 MiB`."""
    return "%.1f MiB" % (count / float(1 << 20))
