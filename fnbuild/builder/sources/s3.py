"""The https address of an object in S3, signed for an hour when there are keys.

The signature is version 4 of AWS's, in the query.
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
    """`token` is that of a session, "" without one."""

    region: str
    identity: str
    secret: str = field(repr=False)
    token: str = field(default="", repr=False)


def object_url(attributes: Mapping[str, Any]) -> str:
    """The address that `codeEntryAttributes` name, as Nuclio reads them. Raises `InputError`."""
    bucket, item, region, identity, secret, token = (
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
        raise InputError(f"codeEntryAttributes.s3Region: {region!r} is no region")
    if bool(identity) != bool(secret):
        raise InputError(
            "codeEntryAttributes has one of s3AccessKeyId and s3SecretAccessKey, not both",
            hint="give both, or none for an object that everybody may read",
        )
    host, item = f"{bucket}.s3.{region}.amazonaws.com", item.lstrip("/")
    if not identity:
        return f"https://{host}/{quote(item)}"
    return sign_url(host, item, S3Credentials(region, identity, secret, token), datetime.now(UTC))


def sign_url(
    host: str, item: str, keys: S3Credentials, now: datetime, seconds: int = _VALIDITY_SECONDS
) -> str:
    """The address with a signature that holds for so many seconds from `now` (UTC)."""
    time, scope = now.strftime("%Y%m%dT%H%M%SZ"), f"{now:%Y%m%d}/{keys.region}/s3/aws4_request"
    query = {
        "X-Amz-Algorithm": _ALGORITHM,
        "X-Amz-Credential": f"{keys.identity}/{scope}",
        "X-Amz-Date": time,
        "X-Amz-Expires": str(seconds),
        "X-Amz-SignedHeaders": "host",
    }
    if keys.token:
        query["X-Amz-Security-Token"] = keys.token
    asked = "&".join(f"{name}={quote(query[name], safe='')}" for name in sorted(query))
    path = "/" + quote(item)
    request = f"GET\n{path}\n{asked}\nhost:{host}\n\nhost\nUNSIGNED-PAYLOAD"
    digest = hashlib.sha256(request.encode()).hexdigest()
    key = f"AWS4{keys.secret}".encode()
    for part in scope.split("/"):
        key = _mac(key, part)
    signature = _mac(key, f"{_ALGORITHM}\n{time}\n{scope}\n{digest}").hex()
    return f"https://{host}{path}?{asked}&X-Amz-Signature={signature}"


def _mac(key: bytes, text: str) -> bytes:
    return hmac.new(key, text.encode(), hashlib.sha256).digest()
