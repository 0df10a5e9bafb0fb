"""The labels of the function itself, from the annotation `spec` of its function.yaml.

Every platform, and Nuclio, puts that file beside the code. PyYAML is used if the function's
environment has it; without it, the annotation is located by its indentation.
"""

import json
import os
import re
from typing import Any, Dict, Iterable, List, Optional

Label = Dict[str, Any]

CONFIG_NAME = "function.yaml"
_CODE_FOLDER = "/opt/nuclio"
_KEY = re.compile(r"( *)(?:\"([^\"]+)\"|'([^']+)'|([^\s#:'\"][^:]*?)) *:(?: +(.*?))? *\Z")
_BLOCK = re.compile(r"[|>][-+0-9]* *(?:#.*)?\Z")


def read_label_spec(folders: Iterable[str]) -> List[Label]:
    """Return the label spec of the first function.yaml in these folders or in /opt/nuclio.

    Empty if there is no such file or annotation. Raises ValueError if it is invalid.
    """
    for folder in (*folders, _CODE_FOLDER):
        path = os.path.join(folder, CONFIG_NAME)
        if os.path.isfile(path):
            with open(path, encoding="utf-8-sig") as file:
                return _parse_spec(_spec_text(file.read()), path)
    return []


def _parse_spec(text: str, path: str) -> List[Label]:
    if not text.strip():
        return []
    try:
        labels = json.loads(text)
        names = [label["name"] for label in labels]
    except (ValueError, TypeError, LookupError):
        names = [None]
    if not all(isinstance(name, str) for name in names):
        message = '%s: metadata.annotations.spec must be JSON: [{"name": "cat"}, ...]'
        raise ValueError(message % path)
    return labels  # type: ignore[no-any-return]


def _spec_text(text: str) -> str:
    """Return the annotation in the text of a function.yaml, or ""."""
    try:
        import yaml
    except ImportError:
        return _find_spec(text.splitlines())
    try:
        config = yaml.safe_load(text)
        value = config["metadata"]["annotations"].get("spec")
    except (yaml.YAMLError, LookupError, TypeError, AttributeError):
        return ""
    return value if isinstance(value, str) else ""


def _find_spec(lines: List[str]) -> str:
    """Return metadata.annotations.spec of YAML in block style."""
    wanted = ["metadata", "annotations", "spec"]
    indent = -1
    for number, line in enumerate(lines):
        match = _KEY.match(line)
        if match is None:
            continue
        name = match.group(2) or match.group(3) or match.group(4)
        if len(match.group(1)) > indent and name == wanted[0]:
            indent = len(match.group(1))
            del wanted[0]
            if not wanted:
                return _scalar(match.group(5) or "", _nested(lines[number + 1 :], indent))
    return ""


def _nested(lines: List[str], indent: int) -> List[str]:
    nested: List[str] = []
    for line in lines:
        if line.strip() and len(line) - len(line.lstrip(" ")) <= indent:
            break
        nested.append(line.strip())
    return nested


def _scalar(first: str, nested: List[str]) -> str:
    """Return the text of a scalar, whose line breaks are spaces of JSON in all styles."""
    if _BLOCK.match(first):
        return "\n".join(nested)
    text = " ".join([first, *nested]).strip()
    if text.startswith("'"):
        return text[1 : text.rfind("'")].replace("''", "'")
    if text.startswith('"'):
        value = _json_string(text[: text.rfind('"') + 1])
        return value if value is not None else ""
    return "" if text in ("null", "~") else text


def _json_string(text: str) -> Optional[str]:
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return str(value)
