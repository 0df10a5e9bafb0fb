"""Decide whether a variable holds a secret: by its name, its value, or an annotation.

A name is read word by word, so that OPENAI_KEY counts and KEYPOINTS does not. An ambiguous word
counts as a secret, except for the usual words of machine learning.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

SECRET_ENV_ANNOTATION = "fnbuild.io/secret-env"  # noqa: S105 - the name of an annotation
"""The annotation that lists variables to treat as secrets, separated by commas."""


def _word_set(text: str) -> frozenset[str]:
    return frozenset(text.split())


_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+")

# A name that ends with one of these describes a secret and does not hold it.
_DESCRIBING_WORDS = _word_set(
    "age algorithm alg audience backend class count dir directory disabled domain enabled"
    " endpoint expiration expires expiry file filename folder format host issuer length limit"
    " limits method min max mode name names path port prefix provider region required rounds"
    " scope scopes seconds size suffix timeout ttl type uri url user username version"
)
_SECRET_WORDS = _word_set(
    "apikey apikeys auth bearer conninfo cookie cookies cred creds dockercfg dsn hmac"
    " htpasswd jwt jwts mnemonic netrc oauth otp p12 pat pem pfx pwd salt sas sessionid totp"
    " webhook webhooks"
)
"""Words that mark a secret anywhere in a name."""

_SECRET_PARTS = re.compile(
    r"passw(or)?d|passphrase|secret|credential|authori[sz]ation"
    r"|dockerconfig|[a-z]token$|^(pg|db|my|ftp|smtp|ldap|sql|user|root|admin|mail|redis|mongo)pass$"
    r"|(api|access|account|admin|app|auth|client|deploy|encryption|host|license|master|private"
    r"|secret|server|service|session|shared|sign(ing)?|ssh|ssl|storage|subscription|tls)keys?$"
)
"""Parts of one word that mark a secret."""

_SECRET_ADDRESS_WORDS = frozenset({"webhook", "webhooks", "sas", "dsn", "jwt"})
"""Words whose address is the secret itself, such as WEBHOOK_URL."""

_BEFORE_OTHER_KEYS = _word_set(
    "cache class column dict feature field foreign group hash hot idempotency image images"
    " index input item json label map mapping object output partition primary pub public"
    " publishable record routing shard shortcut sort state"
)
"""Words before "key" that mean another kind of key."""

_AFTER_KEY = _word_set("id ids data value values content contents base64 b64 json string")
_BEFORE_MODEL_TOKENS = _word_set(
    "begin bos class classification cls end eos image mask next pad padding sep special start"
    " stop text unk unknown video"
)
"""Words before "token" that mean a token of a language model."""

_AFTER_TOKEN = _word_set(
    "budget bucket classification classifier count dim dims dropout embedding embeddings ids"
    " length level merging per pooling rate ratio size type types window"
)
_BEFORE_SECRET_TOKENS = _word_set(
    "access admin api app auth bearer bot client deploy refresh registry secret service"
    " session user"
)
"""Words before "tokens" that mean secrets; without them, tokens of a text are meant."""

_BEFORE_OTHER_PASSES = _word_set(
    "all backward band first forward high last low multi one second single test two"
)

_CREDENTIALS_IN_URL = re.compile(
    r"(?<=://)(?:[^/@\s]{0,256}:[^@\s]{0,4096}@(?:[^@\s]{0,4096}@){0,8}|[^/@\s]{1,4096}@)"
)
"""User and password of an address. A password may have an unescaped slash. Lengths are limited,
because matching a hostile text would take quadratic time.
"""

_USERINFO = re.compile(r"(?<=://)[^/@\s]+@")
"""User and password of a valid address."""

_SECRET_VALUE = re.compile(
    r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY"
    # Tokens with the prefixes of GitHub, GitLab, Hugging Face, OpenAI, Stripe, Slack …
    r"|\b(gh[pousr]_|github_pat_|glpat-|glsa_|hf_|npm_|pypi-|dckr_pat_|dop_v1_|hvs\.|r8_|gsk_|xai-"
    r"|sk-|sk_live_|sk_test_|rk_live_|whsec_|xox[abeoprs]-|ya29\.|AGE-SECRET-KEY-|SG\.)[\w.-]{12}"
    r"|\b(AKIA|ASIA)[0-9A-Z]{16}\b|\bAIza[\w-]{30}"
    r"|\beyJ[\w-]{8,1000}\.eyJ[\w-]{8,4000}\."
    r"|\b(Bearer|Basic) (?=[\w.~+/-]*[0-9A-Z=])[\w.~+/-]{12,}=*"
    r"|\b(AccountKey|SharedAccessKey|SharedAccessSignature|Password|Pwd)\s*=\s*[^\s;&]"
    r"|hooks\.slack\.com/(services|workflows)/|discord(app)?\.com/api/webhooks/"
    r"|[?&](sig|signature|X-Amz-Signature|token|access_token|api_?key|password)=[^&\s]"
)
"""Texts that are secrets, whatever the name of the variable."""

_ASSIGNED_VALUE = r"(?P<value>\"[^\"]*\"|'[^']*'|[^\s;&|'\"]+)"
_ASSIGNMENTS = (
    re.compile(rf"(?P<before>)(?P<name>\b[A-Za-z_][\w-]*)(?P<between>=(?!=)|: ?){_ASSIGNED_VALUE}"),
    re.compile(rf"(?P<before>--)(?P<name>[A-Za-z][\w-]*)(?P<between> +){_ASSIGNED_VALUE}"),
    re.compile(
        rf"(?P<before>\b(?:ENV|ARG) +)(?P<name>[A-Za-z_]\w*)(?P<between> +){_ASSIGNED_VALUE}"
    ),
)
"""NAME=VALUE, Name: VALUE, --name VALUE and ENV NAME VALUE in commands."""


def is_secret_name(name: str) -> bool:
    """Return True if the name suggests that the variable holds a secret."""
    if name.endswith("-headers"):
        # HTTP headers for a host that has the model, as KServe names them.
        return True
    words = [word.lower() for word in _WORD.findall(name)]
    joined = "".join(words)
    if not words or (
        words[-1] in _DESCRIBING_WORDS and not _SECRET_ADDRESS_WORDS.intersection(words)
    ):
        return False
    return (
        not _SECRET_WORDS.isdisjoint(words)
        or any(_SECRET_PARTS.search(word) for word in words)
        or any(text in joined for text in ("connectionstring", "connstr", "seedphrase"))
        or any(_means_secret(words, index) for index in range(len(words)))
    )


def is_secret_value(value: str) -> bool:
    """Return True for an address with a password, a private key or a token with a known prefix."""
    return has_credentials(value) or _SECRET_VALUE.search(value) is not None


def is_secret(name: str, value: Any) -> bool:
    """Return True if the variable looks like a secret by its name or its value."""
    return is_secret_name(name) or is_secret_value(str(value))


def has_credentials(value: str) -> bool:
    """Return True if the text has an address with a user name or password."""
    return _CREDENTIALS_IN_URL.search(value) is not None


def strip_credentials(value: str) -> str:
    """Return the text for display: without anything that may be credentials in its addresses.

    `https://host:8080/a@b` may lose its host; `strip_userinfo` keeps addresses usable.
    """
    return _CREDENTIALS_IN_URL.sub("", value)


def strip_userinfo(text: str) -> str:
    """Return the text without the user names and passwords in its addresses, which stay usable."""
    return _USERINFO.sub("", text)


def mask_userinfo(text: str) -> str:
    """Return the text, such as a program's output, with `***` for users and passwords in URLs."""
    return _USERINFO.sub("***@", text)


def mask_secrets(text: str, mask: str) -> str:
    """Return a text, such as a command, with recognizable secrets masked."""

    def hidden(match: re.Match[str]) -> str:
        refers = match["value"].strip("\"'").startswith("$")
        secret = is_secret_name(match["name"]) and not refers
        return f"{match['before']}{match['name']}{match['between']}{mask}" if secret else match[0]

    text = _SECRET_VALUE.sub(mask, _CREDENTIALS_IN_URL.sub(f"{mask}@", text))
    for pattern in _ASSIGNMENTS:
        text = pattern.sub(hidden, text)
    return text


def declared_secrets(annotations: Mapping[str, str]) -> frozenset[str]:
    """Return the names of variables that annotations declare to be secrets."""
    names = annotations.get(SECRET_ENV_ANNOTATION, "").split(",")
    return frozenset(name.strip() for name in names if name.strip())


def _means_secret(words: list[str], index: int) -> bool:
    """Return True if an ambiguous word means a secret at its position in the name."""
    word = words[index]
    before = words[index - 1] if index else ""
    after = words[index + 1] if index + 1 < len(words) else ""
    ends = not after or after.isdecimal()
    meanings = {
        "key": (ends or after in _AFTER_KEY) and before not in _BEFORE_OTHER_KEYS,
        "token": before not in _BEFORE_MODEL_TOKENS and after not in _AFTER_TOKEN,
        "tokens": len(words) == 1 or before in _BEFORE_SECRET_TOKENS,
        "pass": ends and before not in _BEFORE_OTHER_PASSES,
        "session": ends or after in ("id", "cookie", "data"),
        "private": ends,
    }
    meanings["keys"] = meanings["key"]
    return meanings.get(word, False)
