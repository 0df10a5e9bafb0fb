"""S3 and servers with its API: signed URLs, and the objects of a model.

Requests are signed in their URL (AWS Signature Version 4, as in the documentation of S3), so that
a plain download reads an object. The settings are variables of the environment, by the names of
AWS's tools and of KServe.
"""

import hashlib
import hmac
import time
from typing import List, Mapping, NamedTuple, Optional, Tuple
from urllib.parse import quote, unquote, urlsplit
from xml.etree import ElementTree

from .errors import StorageError
from .sources import RemoteFile, StorageSource, bucket_file_path, empty_error
from .uris import StorageUri
from .web import StatusError, WebClient

_VALIDITY_SECONDS = 3600
_FALSE = ("0", "false", "no", "off")


class S3Credentials(NamedTuple):
    """The keys of an account, and the token of temporary ones."""

    access_key: str
    secret_key: str
    session_token: str = ""

    def __repr__(self) -> str:
        return "<credentials of S3>"


class S3Server(NamedTuple):
    """A server. `endpoint` is "" for AWS; without credentials, requests are not signed.

    `ca_file` has additional authorities for its certificate, which `verify` checks.
    """

    endpoint: str
    region: str
    virtual_host: bool
    credentials: Optional[S3Credentials]
    verify: bool = True
    ca_file: str = ""

    def url(self, bucket: str, key: str = "", query: Tuple[Tuple[str, str], ...] = ()) -> str:
        """Return the URL of an object or a bucket, signed for an hour."""
        if self.endpoint:
            scheme, _colon, host = self.endpoint.rstrip("/").partition("://")
        else:
            scheme, host = "https", "s3.%s.amazonaws.com" % self.region
        # The certificate of AWS has no names with further dots.
        virtual = self.virtual_host if self.endpoint else "." not in bucket
        path = quote(key, safe="/-_.~")
        address = "%s://%s.%s/%s" if virtual else "%s://%s/%s/%s"
        parts = (scheme, bucket, host, path) if virtual else (scheme, host, bucket, path)
        if self.credentials is None:
            text = _encode_query(query)
            return address % parts + ("?" + text if text else "")
        return _sign(address % parts, query, self.credentials, self.region)


def s3_server(environment: Mapping[str, str]) -> S3Server:
    """Return the server that the environment describes."""
    get = environment.get
    endpoint = get("AWS_ENDPOINT_URL_S3") or get("AWS_ENDPOINT_URL") or ""
    if not endpoint and get("S3_ENDPOINT"):
        secure = get("S3_USE_HTTPS", "1").lower() not in _FALSE
        endpoint = "%s://%s" % ("https" if secure else "http", environment["S3_ENDPOINT"])
    if endpoint and urlsplit(endpoint).scheme not in ("http", "https"):
        raise StorageError("the endpoint %r of S3 is not an http(s) address" % endpoint)
    if not endpoint and get("S3_USE_ACCELERATE", "0").lower() not in _FALSE:
        endpoint = "https://s3-accelerate.amazonaws.com"
    virtual = get("S3_USER_VIRTUAL_BUCKET", "0").lower() not in _FALSE
    return S3Server(
        endpoint,
        get("AWS_REGION") or get("AWS_DEFAULT_REGION") or "us-east-1",
        virtual or endpoint.endswith("//s3-accelerate.amazonaws.com"),
        _credentials(environment),
        get("S3_VERIFY_SSL", "1").lower() not in _FALSE,
        get("AWS_CA_BUNDLE", ""),
    )


def _credentials(environment: Mapping[str, str]) -> Optional[S3Credentials]:
    get = environment.get
    access_key, secret_key = get("AWS_ACCESS_KEY_ID", ""), get("AWS_SECRET_ACCESS_KEY", "")
    if bool(access_key) != bool(secret_key):
        raise StorageError(
            "one of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY is set, not both",
            "set both, or none for a public bucket",
        )
    if not access_key or get("awsAnonymousCredential", "0").lower() not in _FALSE:
        return None
    return S3Credentials(access_key, secret_key, get("AWS_SESSION_TOKEN", ""))


def _encode_query(query: Tuple[Tuple[str, str], ...]) -> str:
    pairs = sorted((quote(name, safe="-_.~"), quote(value, safe="-_.~")) for name, value in query)
    return "&".join("%s=%s" % pair for pair in pairs)


def _sign(
    url: str, query: Tuple[Tuple[str, str], ...], credentials: S3Credentials, region: str
) -> str:
    moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    scope = "%s/%s/s3/aws4_request" % (moment[:8], region)
    parameters = (
        *query,
        ("X-Amz-Algorithm", "AWS4-HMAC-SHA256"),
        ("X-Amz-Credential", "%s/%s" % (credentials.access_key, scope)),
        ("X-Amz-Date", moment),
        ("X-Amz-Expires", str(_VALIDITY_SECONDS)),
        ("X-Amz-SignedHeaders", "host"),
    )
    if credentials.session_token:
        parameters += (("X-Amz-Security-Token", credentials.session_token),)
    parts = urlsplit(url)
    encoded = _encode_query(parameters)
    canonical = "GET\n%s\n%s\nhost:%s\n\nhost\nUNSIGNED-PAYLOAD" % (
        parts.path,
        encoded,
        parts.netloc,
    )
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    text = "AWS4-HMAC-SHA256\n%s\n%s\n%s" % (moment, scope, digest)
    key = ("AWS4" + credentials.secret_key).encode()
    for part in (moment[:8], region, "s3", "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    signature = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
    return "%s?%s&X-Amz-Signature=%s" % (url, encoded, signature)


class S3Source(StorageSource):
    """The objects below a path of a bucket, or one object."""

    def __init__(self, uri: StorageUri, environment: Mapping[str, str]) -> None:
        self._uri = uri
        self._server = s3_server(environment)
        self.client = WebClient(self._server.ca_file, self._server.verify)

    def files(self) -> List[RemoteFile]:
        files: List[RemoteFile] = []
        token = ""
        while True:
            page = self._list(token)
            for item in page.findall("Contents"):
                key = unquote(_text(item, "Key").replace("+", "%20"))
                path = bucket_file_path(key, self._uri.path)
                if path:
                    size = int(_text(item, "Size") or -1)
                    files.append(RemoteFile(path, key, size, _text(item, "ETag")))
            token = _text(page, "NextContinuationToken")
            if not token:
                break
        if not files:
            raise empty_error(self._uri)
        return files

    def url(self, file: RemoteFile) -> str:
        return self._server.url(self._uri.location, file.key)

    def _list(self, token: str) -> ElementTree.Element:
        query: Tuple[Tuple[str, str], ...] = (
            ("encoding-type", "url"),
            ("list-type", "2"),
            ("prefix", self._uri.path),
        )
        if token:
            query += (("continuation-token", token),)
        url = self._server.url(self._uri.location, "", query)
        try:
            text = self.client.read(url).decode("utf-8")
            page = ElementTree.fromstring(_without_namespace(text))  # noqa: S314 - of the server
        except StatusError as error:
            raise self._explained(error) from None
        except (ElementTree.ParseError, UnicodeDecodeError):
            raise StorageError(
                "the server of %s does not answer as S3 does" % str(self._uri),
                "check the endpoint in AWS_ENDPOINT_URL",
            ) from None
        return page

    def _explained(self, error: StatusError) -> StorageError:
        region = error.headers.get("x-amz-bucket-region", "")
        bucket = "the bucket s3://%s" % self._uri.location
        if region and region != self._server.region:
            return StorageError(
                "%s is in the region %s, not %s" % (bucket, region, self._server.region),
                "set AWS_DEFAULT_REGION to %s" % region,
            )
        if error.status == 404:
            return StorageError("%s does not exist" % bucket, "check its name and the endpoint")
        if error.status in (400, 401, 403):
            hint = "check the keys in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and their rights"
            if self._server.credentials is None:
                hint = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY: without them, only public"
                hint += " buckets can be read"
            return StorageError("%s cannot be read: %d" % (bucket, error.status), hint)
        return error


def _without_namespace(text: str) -> str:
    return text.replace(' xmlns="', ' namespace="', 1)


def _text(element: ElementTree.Element, name: str) -> str:
    return element.findtext(name) or ""
