"""The files of a recording: requests with their replies, and the pictures of the requests.

    TIME-PID-NUMBER.rec    a line of JSON, the request's body without its pictures, the reply's body
    images/SHA256          a picture, once for all requests that have it

The line has `time` (Unix time), `method`, `path`, `headers` (a few that describe the body), `size`
of the request's body without pictures, `images`: for each picture its offset in there and its
sha256, `status`, `content_type` of the reply, and the `seconds` that it took. Headers with
credentials, cookies and the query are not recorded. Pictures are as they were in the request: in
base64, or any other long text of its JSON. A picture has the time of its newest request,
so pictures older than the oldest request are not needed any more.
"""

import hashlib
import json
import os
import tarfile
from contextlib import suppress
from typing import IO, Any, Dict, Iterator, List, NamedTuple, Tuple, Union

# The folder of a container's recording.
RECORDING_PATH = "/tmp/fnbuild-recording"  # noqa: S108 - in a container of its own
IMAGES = "images"
SUFFIX = ".rec"
# Headers of a request that its body cannot be understood without.
KEPT_HEADERS = ("content-type", "inference-header-content-length")

# A request with this header is not recorded.
NO_RECORD = "x-fnbuild-no-record"

# Shorter texts stay in the body, as do those after so many others.
_MIN_IMAGE = 1024
_MAX_TEXTS = 1000
_MAX_LINE = 1 << 20


class RecordConfig(NamedTuple):
    """The bounds of a recording, in bytes and seconds, and its folder."""

    size: int
    age: float
    folder: str


class Part(NamedTuple):
    """A long text of a request, such as a picture: its place in the rest of the body."""

    offset: int
    content: Union[bytes, memoryview]


class Entry(NamedTuple):
    """A recorded request: its name, the values of its first line, and its bodies."""

    name: str
    header: Dict[str, Any]
    request: bytes
    reply: bytes


def split_body(body: bytes, content_type: str) -> Tuple[bytes, List[Part]]:
    """Return the body without its long texts, and these.

    Nothing is decoded, since other threads of the process would wait meanwhile.
    """
    if content_type.startswith("image/"):
        return b"", [Part(0, body)]
    parts: List[Part] = []
    rest: List[bytes] = []
    kept = start = size = 0
    view = memoryview(body)
    for _ in range(_MAX_TEXTS):
        start = body.find(b'"', start)
        end = _end_of_text(body, start + 1) if start >= 0 else -1
        if end < 0:
            break
        if end - start > _MIN_IMAGE:
            rest.append(body[kept : start + 1])
            size += start + 1 - kept
            parts.append(Part(size, view[start + 1 : end]))
            kept = end
        start = end + 1
    rest.append(body[kept:])
    return b"".join(rest), parts


def _end_of_text(body: bytes, start: int) -> int:
    """Return the place of the quotation mark that ends a JSON string, -1 if there is none."""
    end = start
    while True:
        end = body.find(b'"', end)
        if end < 0:
            return -1
        before = end
        while before > start and body[before - 1] == 0x5C:
            before -= 1
        if (end - before) % 2 == 0:
            return end
        end += 1


def join_body(rest: bytes, parts: List[Part]) -> bytes:
    """Return the body that `split_body` has split."""
    pieces: List[Union[bytes, memoryview]] = []
    at = 0
    for part in parts:
        pieces += (rest[at : part.offset], part.content)
        at = part.offset
    return b"".join(pieces) + rest[at:]


def make_folder(folder: str) -> None:
    """Create the folder of a recording, which only its owner may read."""
    for path in (folder, os.path.join(folder, IMAGES)):
        os.makedirs(path, mode=0o700, exist_ok=True)


def store_entry(folder: str, entry: Entry, content_type: str) -> None:
    """Write a request and its reply. Raises OSError."""
    rest, parts = split_body(entry.request, content_type)
    images = [
        (part.offset, store_image(folder, part.content, entry.header["time"])) for part in parts
    ]
    header = dict(entry.header, size=len(rest), images=images)
    line = json.dumps(header).encode("utf-8") + b"\n"
    _write(os.path.join(folder, entry.name + SUFFIX), (line, rest, entry.reply))


def store_image(folder: str, content: Union[bytes, memoryview], time: float) -> str:
    """Write a picture unless it is there, give it the time of its request; return its sha256."""
    digest = hashlib.sha256(content).hexdigest()
    path = os.path.join(folder, IMAGES, digest)
    try:
        os.utime(path, (time, time))
    except FileNotFoundError:
        _write(path, (content,))
        os.utime(path, (time, time))
    return digest


def _write(path: str, pieces: Tuple[Union[bytes, memoryview], ...]) -> None:
    """Write a file that appears once it is complete, readable by its owner only."""
    draft = "%s.%d.new" % (path, os.getpid())
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(fd, "wb") as file:
            for piece in pieces:
                file.write(piece)
        os.rename(draft, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(draft)
        raise


class StoredFile(NamedTuple):
    """A file of a recording."""

    path: str
    size: int
    time: float


def stored_files(folder: str) -> Tuple[List[StoredFile], List[StoredFile]]:
    """Return the requests, oldest first, and the pictures, with what a killed processor left."""
    requests: List[StoredFile] = []
    images: List[StoredFile] = []
    for place in (folder, os.path.join(folder, IMAGES)):
        with suppress(OSError):
            for file in os.scandir(place):
                with suppress(OSError):
                    status = file.stat(follow_symlinks=False)
                    if file.is_file(follow_symlinks=False):
                        is_request = place == folder and file.name.endswith(SUFFIX)
                        stored = requests if is_request else images
                        stored.append(StoredFile(file.path, status.st_size, status.st_mtime))
    return sorted(requests), images


def read_entry(folder: str, name: str) -> Entry:
    """Return a request with its pictures in place. Raises OSError or ValueError."""
    header, rest, reply = _read(os.path.join(folder, name + SUFFIX))
    parts = []
    for offset, digest in header["images"]:
        with open(os.path.join(folder, IMAGES, os.path.basename(digest)), "rb") as file:
            content = file.read()
        if hashlib.sha256(content).hexdigest() != digest:
            raise ValueError("the picture %s is damaged" % digest)
        parts.append(Part(offset, content))
    return Entry(name, header, join_body(rest, parts), reply)


def _read(path: str) -> Tuple[Dict[str, Any], bytes, bytes]:
    with open(path, "rb") as file:
        header = _read_header(file)
        rest = file.read(header["size"])
        if len(rest) != header["size"]:
            raise ValueError("the request is incomplete")
        return header, rest, file.read()


_FIELDS: Dict[str, Any] = {
    "time": (int, float),
    "method": str,
    "path": str,
    "headers": dict,
    "size": int,
    "images": list,
    "status": int,
    "seconds": (int, float),
}


def _read_header(file: IO[bytes]) -> Dict[str, Any]:
    header: Dict[str, Any] = json.loads(file.readline(_MAX_LINE).decode("utf-8"))
    is_valid = isinstance(header, dict) and all(
        isinstance(header.get(name), kind) for name, kind in _FIELDS.items()
    )
    if not is_valid:
        raise ValueError("it is no recorded request")
    return header


def list_entries(folder: str) -> List[Dict[str, Any]]:
    """Return what the first lines have, with the `id` and the number of `bytes`, oldest first."""
    entries = []
    for stored in stored_files(folder)[0]:
        # It may be removed at any time.
        with suppress(OSError, ValueError):
            with open(stored.path, "rb") as file:
                header = _read_header(file)
            name = os.path.basename(stored.path)[: -len(SUFFIX)]
            entries.append(dict(header, id=name, bytes=stored.size))
    return entries


def clear(folder: str) -> int:
    """Remove all requests and pictures; return the number of requests."""
    requests, images = stored_files(folder)
    for stored in requests + images:
        with suppress(OSError):
            os.unlink(stored.path)
    return len(requests)


def write_archive(folder: str, file: IO[bytes]) -> None:
    """Write the recording as a tar archive. Raises OSError."""
    with tarfile.open(fileobj=file, mode="w|", format=tarfile.PAX_FORMAT) as archive:
        for stored in (stored for kind in stored_files(folder) for stored in kind):
            # It may be removed at any time.
            with suppress(FileNotFoundError):
                archive.add(stored.path, os.path.relpath(stored.path, folder), filter=_anonymous)


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mode = 0o600
    return member


def run(folder: str, action: str, file: IO[bytes]) -> None:
    """List the requests as JSON, write them as an archive, or remove them."""
    if action == "export":
        write_archive(folder, file)
        return
    result = clear(folder) if action == "clear" else list_entries(folder)
    file.write(json.dumps(result).encode("utf-8") + b"\n")


def read_entries(folder: str) -> Iterator[Entry]:
    """Yield the requests that can be read, oldest first."""
    for stored in stored_files(folder)[0]:
        with suppress(OSError, ValueError, TypeError):
            yield read_entry(folder, os.path.basename(stored.path)[: -len(SUFFIX)])
