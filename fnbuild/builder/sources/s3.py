"""The https URL of an object in S3, signed for an hour if there are credentials.

The signature is AWS's version 4, in the query.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from fnbuild.errors import InputError

_VALIDITY_SECONDS = 3600
_ALGORITHM = "AWS4-HMAC-SHA256"


@dataclass(frozen=True, slots=True)
class S3Credentials:
    """Credentials of S3; `session_token` is "" without a session."""

    region: str
    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str = field(default="", repr=False)


def object_url(attributes: Mapping[str, Any]) -> str:
    """Return the URL of the object in `codeEntryAttributes`, as in Nuclio. Raises `InputError`."""
    bucket, item, region, access_key_id, secret_access_key, session_token = (
        str(attributes.get(name) or "")
        for name in (
            "s3Bucket", "s3ItemKey", "s3Region", "s3AccessKeyId", "s3SecretAccessKey",
            "s3SessionToken",
        )
    )  # fmt: skip
    if not re.fullmatch(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", bucket) or not item:
        raise InputError("codeEntryType s3 needs codeEntryAttributes.s3Bucket and .s3ItemKey")
    region = region or "us-east-1"
    if not re.fullmatch(r"[a-z0-9-]+", region):
        raise InputError(f"codeEntryAttributes.s3Region: {region!r} is not a region")
    if bool(access_key_id) != bool(secret_access_key):
        raise InputError(
            "codeEntryAttributes has one of s3AccessKeyId and s3SecretAccessKey, not both",
            hint="set both, or none for a public object",
        )
    host, item = f"{bucket}.s3.{region}.amazonaws.com", item.lstrip("/")
    if not access_key_id:
        return f"https://{host}/{quote(item)}"
    return sign_url(
        host,
        item,
        S3Credentials(region, access_key_id, secret_access_key, session_token),
        datetime.now(UTC),
    )


def sign_url(
    host: str,
    item: str,
    credentials: S3Credentials,
    now: datetime,
    seconds: int = _VALIDITY_SECONDS,
) -> str:
    """Return the URL with a signature that is valid for `seconds` from `now` (UTC)."""
    time, scope = (
        now.strftime("%Y%m%dT%H%M%SZ"),
        f"{now:%Y%m%d}/{credentials.region}/s3/aws4_request",
    )
    query = {
        "X-Amz-Algorithm": _ALGORITHM,
        "X-Amz-Credential": f"{credentials.access_key_id}/{scope}",
        "X-Amz-Date": time,
        "X-Amz-Expires": str(seconds),
        "X-Amz-SignedHeaders": "host",
    }
    if credentials.session_token:
        query["X-Amz-Security-Token"] = credentials.session_token
    query_text = "&".join(f"{name}={quote(query[name], safe='')}" for name in sorted(query))
    path = "/" + quote(item)
    request = f"GET\n{path}\n{query_text}\nhost:{host}\n\nhost\nUNSIGNED-PAYLOAD"
    digest = hashlib.sha256(request.encode()).hexdigest()
    signing_key = f"AWS4{credentials.secret_access_key}".encode()
    for part in scope.split("/"):
        signing_key = _mac(signing_key, part)
    signature = _mac(signing_key, f"{_ALGORITHM}\n{time}\n{scope}\n{digest}").hex()
    return f"https://{host}{path}?{query_text}&X-Amz-Signature={signature}"


def _mac(key: bytes, text: str) -> bytes:
    return hmac.new(key, text.encode(), hashlib.sha256).digest()
