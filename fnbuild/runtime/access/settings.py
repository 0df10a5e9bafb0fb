"""Authentication at a function, from attributes of its http trigger.

    {"authenticationMode": "none" | "basicAuth" | "api",
     "authentication": {
         "basicAuth": {"username": "cvat"},
         "tokens": [{"name": "ci", "sha256": "…", "created": "…", "expires": "2026-12-31T…Z"}],
         "jwt": {"jwksFile": "keys.json" | "jwksURL": "https://…", "issuer": "https://…",
                 "audience": "cvat" | ["cvat", "ci"], "algorithms": ["RS256"],
                 "leewaySeconds": 30, "requiredClaims": {"scope": "predict"}}}}

Modes and `basicAuth` are those of Nuclio 1.17. Its mode `browser` needs a sign-in page, which
processors do not have. Names of keys are case-insensitive, as in Nuclio. The secret parts are in
`credentials`.
"""

import calendar
import re
import time
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple, Union

from .signatures import ALGORITHMS
from .web_tokens import TokenRules

ATTRIBUTES = ("authenticationMode", "authentication")
MODES = ("none", "basicAuth", "api", "browser")
SECRET_KEYS = ("password", "secret")
"""Keys whose values `credentials` has instead, in lower case."""

_KEYS: Dict[str, Sequence[str]] = {
    "authentication": ("basicAuth", "tokens", "jwt"),
    "basicAuth": ("username", "password"),
    "jwt": (
        "jwksFile", "jwksURL", "secret", "issuer", "audience", "algorithms", "leewaySeconds",
        "requiredClaims",
    ),
    "tokens": ("name", "sha256", "created", "expires"),
}  # fmt: skip
_DIGEST = re.compile(r"[0-9a-f]{64}\Z")
_TIME_FORMAT = "%Y-%m-%dT%H:%M:%SZ"
_MAX_LEEWAY = 600
_MIN_SECRET = 32
_URL = re.compile(r"https?://[^/\s@]+(/\S*)?\Z")

Values = Dict[str, Any]
FieldPath = Tuple[Union[str, int], ...]


class AccessProblem(NamedTuple):
    """An invalid value: its path in the attributes, the reason, and the remedy."""

    path: FieldPath
    message: str
    hint: Optional[str] = None


class AccessToken(NamedTuple):
    """A bearer token: its name, its SHA-256, and the Unix time of its end, if it ends."""

    name: str
    digest: str
    expires: Optional[float]


class AccessSettings(NamedTuple):
    """The checked settings. `key_file` and `key_url` are the sources of keys, "" for none."""

    mode: str = "none"
    username: str = ""
    tokens: Tuple[AccessToken, ...] = ()
    web_tokens: Optional[TokenRules] = None
    key_file: str = ""
    key_url: str = ""


def get_key(values: Any, name: str) -> Tuple[str, Any]:
    """Return a key as it is written, and its value; names are case-insensitive."""
    if isinstance(values, dict):
        for key, value in values.items():
            if str(key).lower() == name.lower():
                return str(key), value
    return name, None


def read_access(attributes: Values) -> AccessSettings:
    """Return the settings in a trigger's attributes; raise ValueError for an invalid value."""
    for problem in access_problems(attributes):
        raise ValueError("attributes.%s: %s" % (".".join(map(str, problem.path)), problem.message))
    mode = get_key(attributes, "authenticationMode")[1] or "none"
    authentication = get_key(attributes, "authentication")[1]
    basic, jwt = (get_key(authentication, name)[1] for name in ("basicAuth", "jwt"))
    return AccessSettings(
        mode,
        str(get_key(basic, "username")[1] or ""),
        tuple(_read_token(item) for item in get_key(authentication, "tokens")[1] or ()),
        None if jwt is None else _read_rules(jwt),
        str(get_key(jwt, "jwksFile")[1] or ""),
        str(get_key(jwt, "jwksURL")[1] or ""),
    )


def _read_token(item: Values) -> AccessToken:
    expires = get_key(item, "expires")[1]
    moment = parse_time(str(expires)) if expires else None
    return AccessToken(get_key(item, "name")[1], get_key(item, "sha256")[1], moment)


def _read_rules(jwt: Values) -> TokenRules:
    values = {name: get_key(jwt, name)[1] for name in _KEYS["jwt"]}
    leeway = values["leewaySeconds"]
    rules = TokenRules(issuer=values["issuer"] or "", audience=_texts(values["audience"]))
    return rules._replace(
        algorithms=_texts(values["algorithms"]) or rules.algorithms,
        claims=tuple(
            (str(name), str(value).lower() if isinstance(value, bool) else str(value))
            for name, value in sorted((values["requiredClaims"] or {}).items())
        ),
        leeway=rules.leeway if leeway is None else float(leeway),
    )


def _texts(value: Any) -> Tuple[str, ...]:
    return (value,) if isinstance(value, str) and value else tuple(value or ())


def parse_time(text: str) -> float:
    """Return the Unix time of a time such as 2026-12-31T23:59:59Z; raise ValueError otherwise."""
    return float(calendar.timegm(time.strptime(text, _TIME_FORMAT)))


def format_time(moment: float) -> str:
    """Return a Unix time as `parse_time` reads it."""
    return time.strftime(_TIME_FORMAT, time.gmtime(moment))


def access_problems(attributes: Values) -> List[AccessProblem]:
    """Return the invalid values in a trigger's attributes."""
    problems = []
    key, mode = get_key(attributes, "authenticationMode")
    if mode not in (None, "", *MODES):
        message = "%r is not a mode of authentication" % (mode,)
        problems.append(AccessProblem((key,), message, "one of: " + ", ".join(MODES)))
    key, authentication = get_key(attributes, "authentication")
    if authentication is None:
        return problems
    problems += _key_problems((key,), authentication, "authentication")
    if problems and not isinstance(authentication, dict):
        return problems
    for name, check in (("basicAuth", _basic), ("jwt", _web_tokens), ("tokens", _tokens)):
        inner, value = get_key(authentication, name)
        if value is not None:
            problems += check((key, inner), value)
    return problems


def _key_problems(path: FieldPath, values: Any, kind: str) -> List[AccessProblem]:
    names = _KEYS[kind]
    if not isinstance(values, dict):
        return [AccessProblem(path, "it is a mapping with the keys " + ", ".join(names))]
    valid = [name.lower() for name in names]
    return [
        AccessProblem((*path, key), "there is no key %r" % key, "the keys are " + ", ".join(names))
        for key in values
        if str(key).lower() not in valid
    ]


def _basic(path: FieldPath, values: Any) -> List[AccessProblem]:
    problems = _key_problems(path, values, "basicAuth")
    key, username = get_key(values, "username")
    if not isinstance(username, str) or not username or ":" in username:
        place = path if username is None else (*path, key)
        problems.append(AccessProblem(place, "username is a text without a colon"))
    key, password = get_key(values, "password")
    # Copies of a configuration have an empty one.
    if password is not None and not isinstance(password, str):
        problems.append(AccessProblem((*path, key), "password is a text", "put it in quotes"))
    return problems


def _tokens(path: FieldPath, items: Any) -> List[AccessProblem]:
    if not isinstance(items, list):
        return [AccessProblem(path, "it is a list", "`fnbuild token create` adds to it")]
    problems, names = [], set()
    for index, item in enumerate(items):
        place = (*path, index)
        problems += _key_problems(place, item, "tokens")
        name, digest, expires = (get_key(item, key)[1] for key in ("name", "sha256", "expires"))
        if not isinstance(name, str) or not name or name in names:
            problems.append(AccessProblem(place, "a token has a name of its own"))
        elif not isinstance(digest, str) or not _DIGEST.match(digest):
            message = "a token is stored as sha256, 64 hexadecimal digits"
            hint = "`fnbuild token create` makes one"
            problems.append(AccessProblem(place, message, hint))
        elif expires and not _is_time(expires):
            message = "%r is not a time" % (expires,)
            problems.append(AccessProblem(place, message, "as in '2026-12-31T23:59:59Z'"))
        names.add(name if isinstance(name, str) else "")
    return problems


def _is_time(value: Any) -> bool:
    try:
        parse_time(str(value))
    except ValueError:
        return False
    return True


def _web_tokens(path: FieldPath, jwt: Any) -> List[AccessProblem]:
    problems = _key_problems(path, jwt, "jwt")
    if not isinstance(jwt, dict):
        return problems

    def add(name: str, message: str, hint: Optional[str] = None) -> None:
        problems.append(AccessProblem((*path, get_key(jwt, name)[0]), message, hint))

    if get_key(jwt, "jwksFile")[1] and get_key(jwt, "jwksURL")[1]:
        add("jwksURL", "jwksFile and jwksURL each name the keys; one is enough")
    for name in ("jwksFile", "jwksURL", "secret", "issuer"):
        problem = _text_problem(name, get_key(jwt, name)[1])
        if problem is not None:
            add(name, *problem)
    names = get_key(jwt, "algorithms")[1]
    if names is not None and (not names or set(map(str, _as_list(names))) - set(ALGORITHMS)):
        add("algorithms", "%r are not algorithms" % (names,), "of: " + ", ".join(ALGORITHMS))
    if not all(isinstance(item, str) for item in _as_list(get_key(jwt, "audience")[1])):
        add("audience", "audience is a text or a list of texts")
    if not _is_leeway(get_key(jwt, "leewaySeconds")[1]):
        add("leewaySeconds", "leewaySeconds is a number from 0 to %d" % _MAX_LEEWAY)
    if not _are_claims(get_key(jwt, "requiredClaims")[1]):
        hint = "as in `{scope: predict}`"
        add("requiredClaims", "requiredClaims is a mapping of claims to values", hint)
    return problems


def _text_problem(name: str, value: Any) -> Optional[Tuple[str, Optional[str]]]:
    """Return the message and the hint for a value that is not such a text."""
    if value is None or (name == "secret" and value == ""):
        return None
    if not isinstance(value, str) or not value:
        return "%s is a text" % name, None
    if name == "jwksURL" and not _URL.match(value):
        return "%r is not the URL of a key set" % value, "as in https://host/jwks.json"
    if name == "secret" and len(value.encode("utf-8", "replace")) < _MIN_SECRET:
        return "a secret of less than %d bytes can be guessed from a token" % _MIN_SECRET, None
    return None


def _is_leeway(value: Any) -> bool:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return value is None or (is_number and 0 <= value <= _MAX_LEEWAY)


def _are_claims(value: Any) -> bool:
    return value is None or (
        isinstance(value, dict) and not any(isinstance(v, (dict, list)) for v in value.values())
    )


def _as_list(value: Any) -> List[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]
