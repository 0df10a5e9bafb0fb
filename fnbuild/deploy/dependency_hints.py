"""Hints for deploys that fail because a module, a file or a program is missing.

A platform without containers ignores the base image and some build lines. They are named as a
likely cause only if the failure says that something is missing.
"""

from __future__ import annotations

import difflib
import re
from pathlib import Path

from fnbuild.builder.interpreter import missing_base_image
from fnbuild.errors import FnbuildError
from fnbuild.platforms import Plan

_MISSING_MODULE = re.compile(r"ModuleNotFoundError: No module named '([\w.]+)'")
_MISSING_LIBRARY = re.compile(r"cannot open shared object file|ImportError: lib\w+\.so")
_MISSING_PROGRAM = re.compile(r"No such file or directory: '[\w+-]+'|(?:command )?not found\b")
_MISSING_FILE = re.compile(r"No such file or directory")
_MISSING_VARIABLE = re.compile(r"KeyError: '(\w+)'")

_FETCHES = (
    r"COPY|ADD|git|curl|wget|gdown|aws|gsutil|dvc|tar|unzip|cp|mv|ln|make|cmake|python\d*|sh|bash"
)
_INSTALLS = r"apt|apt-get|apk|yum|dnf|conda|mamba|micromamba|brew|npm"
_INSTALLS_PYTHON = r"conda|mamba|micromamba|pip\d*|poetry|uv|mim|\S*python\S*|\S*setup\.py"
_PACKAGES = {
    "cv2": "opencv-python-headless",
    "PIL": "pillow",
    "sklearn": "scikit-learn",
    "skimage": "scikit-image",
    "yaml": "pyyaml",
    "segment_anything": "segment-anything",
}
"""Packages whose modules have another name, for modules that vision models import."""


def add_hint(error: FnbuildError, plan: Plan, folder: Path | None) -> None:
    """Append a remedy to the hint of a failed deploy if the error says that something is missing.

    `folder` is the function's source folder, if available: a misspelt name of one of its own
    modules is not a missing package.
    """
    text = "\n".join(part for part in (error.message, error.detail) if part)
    hints = [error.hint] if error.hint else []
    own_module = ""
    if (module := _MISSING_MODULE.search(text)) is not None:
        name = module[1].partition(".")[0]
        own_module = _own_module(name, folder)
        hints.append(f"did you mean {own_module}?" if own_module else _module_remedy(name, plan))
    if not own_module and (
        lines := [line for line in plan.ignored_build_lines if _can_explain(line, text)]
    ):
        hints.append(f"these build lines were left out here, which may be why: {'; '.join(lines)}")
    error.hint = "; ".join(hints) or None


def _can_explain(line: str, text: str) -> bool:
    """Return True if a build line may install what is missing according to the error's text."""
    if (module := _MISSING_MODULE.search(text)) is not None:
        pattern = f"{_FETCHES}|{_INSTALLS_PYTHON}|{re.escape(module[1].partition('.')[0])}"
    elif _MISSING_LIBRARY.search(text) or _MISSING_PROGRAM.search(text):
        pattern = f"{_FETCHES}|{_INSTALLS}"
    elif _MISSING_FILE.search(text):
        pattern = _FETCHES
    elif (variable := _MISSING_VARIABLE.search(text)) is not None:
        return re.match(rf"(ENV|export)\s.*\b{variable[1]}\b", line) is not None
    else:
        return False
    if re.search(r"\b(update|upgrade|clean|autoclean|autoremove)$", line):
        return False
    return re.search(rf"(^|[\s/]|sudo )({pattern})(\s|$)", line) is not None


def _own_module(name: str, folder: Path | None) -> str:
    """Return the name of a similar module in the function's folder, "" if there is none."""
    if folder is None or not folder.is_dir():
        return ""
    names = [path.stem for path in folder.iterdir() if path.suffix == ".py" or path.is_dir()]
    close = difflib.get_close_matches(name, [n for n in names if n.isidentifier()], 1, 0.8)
    return close[0] if close else ""


def _module_remedy(name: str, plan: Plan) -> str:
    package = _PACKAGES.get(name, name)
    requirement = f"name {package} in requirements.txt or a `pip install` directive"
    if plan.artifact.kind == "image":
        return f"{requirement}, or choose a base image that has it"
    image = missing_base_image(plan.function)
    interpreter = f"set NUCLIO_PYTHON_EXE_PATH to an interpreter that has {name}"
    if image:
        return (
            f"the base image {image} may have {name}, but no image is used here: {requirement},"
            f" {interpreter}, or deploy with `--platform local`"
        )
    return f"{requirement}, or {interpreter}"
