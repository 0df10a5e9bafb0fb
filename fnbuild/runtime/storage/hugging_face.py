"""Models of Hugging Face, by the API of its hub."""

import re
from typing import Callable, Dict, List, Mapping
from urllib.parse import quote

from .errors import StorageError
from .sources import Environment, RemoteFile, StorageSource, empty_error
from .uris import StorageUri
from .web import StatusError, WebClient, decode_json, read_document

_HUGGING_FACE = "https://huggingface.co"
_NEXT_PAGE = re.compile(r'<([^>]+)>;\s*rel="next"')
_MAX_FILES = 100_000


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
