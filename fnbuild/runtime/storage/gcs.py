"""Google Cloud Storage: the objects of a model, by the JSON API.

GOOGLE_APPLICATION_CREDENTIALS names a file with the key of a service account, or with the
credentials of a user; without it only public buckets can be read. STORAGE_EMULATOR_HOST is the
address of another server.
"""

import base64
import hashlib
import json
import time
from typing import Dict, List, Mapping, Tuple
from urllib.parse import quote, urlencode, urlsplit

from .errors import StorageError
from .sources import RemoteFile, StorageSource, bucket_file_path, empty_error
from .uris import StorageUri
from .web import StatusError, WebClient, decode_json, is_loopback

_ENDPOINT = "https://storage.googleapis.com"
_TOKEN_ENDPOINT = "https://oauth2.googleapis.com/token"  # noqa: S105 - an address
_SCOPE = "https://www.googleapis.com/auth/devstorage.read_only"
_GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_VARIABLE = "GOOGLE_APPLICATION_CREDENTIALS"
_TOKEN_SECONDS = 3600
# Requests with a token that ends sooner than this get a new one.
_MARGIN_SECONDS = 300
# The start of the structure that is signed (RFC 8017, section 9.2) for SHA-256.
_DIGEST_INFO = bytes.fromhex("3031300d060960864801650304020105000420")


class GoogleSource(StorageSource):
    """The objects below a path of a bucket, or one object."""

    def __init__(self, uri: StorageUri, environment: Mapping[str, str]) -> None:
        self._uri = uri
        endpoint = environment.get("STORAGE_EMULATOR_HOST") or _ENDPOINT
        self._endpoint = (endpoint if "://" in endpoint else "http://" + endpoint).rstrip("/")
        self.client = WebClient()
        self._token = _TokenSource(environment.get(_VARIABLE, ""), self.client)

    def files(self) -> List[RemoteFile]:
        address = "%s/storage/v1/b/%s/o" % (self._endpoint, quote(self._uri.location, safe=""))
        files: List[RemoteFile] = []
        token = ""
        while True:
            query = {"prefix": self._uri.path}
            if token:
                query["pageToken"] = token
            url = "%s?%s" % (address, urlencode(query))
            try:
                page = decode_json(url, self.client.read(url, self._token.headers()))
            except StatusError as error:
                raise self._explained(error) from None
            for item in page.get("items") or []:
                path = bucket_file_path(str(item["name"]), self._uri.path)
                if path:
                    files.append(_remote_file(path, item))
            token = str(page.get("nextPageToken") or "")
            if not token:
                break
        if not files:
            raise empty_error(self._uri)
        return files

    def url(self, file: RemoteFile) -> str:
        names = (self._endpoint, quote(self._uri.location, safe=""), quote(file.key, safe=""))
        url = "%s/download/storage/v1/b/%s/o/%s?alt=media" % names
        return url + "&generation=%s" % file.version if file.version.isdecimal() else url

    def headers(self) -> Dict[str, str]:
        return self._token.headers()

    def _explained(self, error: StatusError) -> StorageError:
        bucket = "the bucket gs://%s" % self._uri.location
        if error.status == 404:
            return StorageError("%s does not exist" % bucket, "check its name")
        if error.status in (401, 403):
            hint = "check the rights of the account in the file of %s" % _VARIABLE
            if not self._token.file:
                hint = "%s names a file with credentials; without it, only public buckets can be"
                hint = (hint + " read") % _VARIABLE
            return StorageError("%s cannot be read: %d" % (bucket, error.status), hint)
        return error


def _remote_file(path: str, item: Mapping[str, object]) -> RemoteFile:
    metadata = item.get("metadata")
    digest = str(metadata.get("sha256", "")) if isinstance(metadata, dict) else ""
    version = str(item.get("generation") or item.get("md5Hash") or "")
    return RemoteFile(path, str(item["name"]), int(str(item.get("size", -1))), version, digest)


class _TokenSource:
    """The access token of the credentials in a file; none without a file."""

    def __init__(self, file: str, client: WebClient) -> None:
        self.file = file
        self._client = client
        self._token = ""
        self._expires = 0.0

    def headers(self) -> Dict[str, str]:
        """Return the header that authorizes a request."""
        if not self.file:
            return {}
        if time.time() > self._expires - _MARGIN_SECONDS:
            self._renew()
        return {"Authorization": "Bearer " + self._token}

    def _renew(self) -> None:
        credentials = self._read()
        kind = credentials.get("type")
        address = credentials.get("token_uri") or _TOKEN_ENDPOINT
        if not _is_safe(address):
            raise self._invalid("its token_uri is not an https address")
        if kind == "service_account":
            form = {"grant_type": _GRANT, "assertion": self._assertion(credentials, address)}
        elif kind == "authorized_user":
            form = {name: credentials.get(name, "") for name in ("client_id", "client_secret")}
            form.update(
                grant_type="refresh_token", refresh_token=credentials.get("refresh_token", "")
            )
        else:
            raise self._invalid("its type is %r" % kind)
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        try:
            data = self._client.read(address, headers, urlencode(form).encode())
        except StatusError as error:
            if error.status in (400, 401):
                raise self._invalid("Google does not accept it") from None
            raise
        answer = decode_json(address, data)
        self._token = str(answer.get("access_token", ""))
        self._expires = time.time() + float(answer.get("expires_in", _TOKEN_SECONDS))

    def _read(self) -> Dict[str, str]:
        try:
            with open(self.file, encoding="utf-8") as file:
                values = json.load(file)
        except OSError as problem:
            raise self._invalid(str(problem.strerror)) from None
        except ValueError:
            values = None
        if not isinstance(values, dict):
            raise self._invalid("it is not JSON")
        return {str(name): str(value) for name, value in values.items()}

    def _assertion(self, credentials: Mapping[str, str], audience: str) -> str:
        now = int(time.time())
        claims = {
            "iss": credentials.get("client_email"),
            "scope": _SCOPE,
            "aud": audience,
            "iat": now,
            "exp": now + _TOKEN_SECONDS,
        }
        header = {"alg": "RS256", "typ": "JWT", "kid": credentials.get("private_key_id")}
        text = b".".join(_base64(json.dumps(part).encode()) for part in (header, claims))
        try:
            signature = _sign_rs256(credentials.get("private_key", ""), text)
        except (ValueError, IndexError):
            raise self._invalid("its private_key is damaged") from None
        return (text + b"." + _base64(signature)).decode()

    def _invalid(self, reason: str) -> StorageError:
        return StorageError(
            "the credentials in %s (%s) cannot be used: %s" % (self.file, _VARIABLE, reason),
            "use the JSON key of a service account",
        )


def _is_safe(address: str) -> bool:
    """Return True for an https address, or one of this machine."""
    try:
        parts = urlsplit(address)
    except ValueError:
        return False
    return parts.scheme == "https" or is_loopback(parts.hostname or "")


def _base64(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def _sign_rs256(pem: str, text: bytes) -> bytes:
    """Return the signature of RSASSA-PKCS1-v1_5 with SHA-256. Raises ValueError for a bad key.

    The standard library has no RSA; Python's own integers are quick enough for one signature.
    """
    body = "".join(line for line in pem.strip().splitlines() if not line.startswith("-----"))
    items = _der_items(_der_items(base64.b64decode(body))[0][1])
    if items[1][0] != 0x02:  # PKCS #8: the key follows the algorithm
        items = _der_items(_der_items(items[2][1])[0][1])
    modulus, exponent = (int.from_bytes(items[index][1], "big") for index in (1, 3))
    length = (modulus.bit_length() + 7) // 8
    digest = _DIGEST_INFO + hashlib.sha256(text).digest()
    if length < len(digest) + 11:
        raise ValueError("the key is too short")
    padded = b"\x00\x01" + b"\xff" * (length - len(digest) - 3) + b"\x00" + digest
    return pow(int.from_bytes(padded, "big"), exponent, modulus).to_bytes(length, "big")


def _der_items(data: bytes) -> List[Tuple[int, bytes]]:
    """Return the tags and contents of DER values that follow each other."""
    items = []
    position = 0
    while position < len(data):
        tag, length = data[position], data[position + 1]
        position += 2
        if length & 0x80:
            count = length & 0x7F
            length = int.from_bytes(data[position : position + count], "big")
            position += count
        items.append((tag, data[position : position + length]))
        position += length
    return items
