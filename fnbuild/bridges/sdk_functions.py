"""Functions from cvat-sdk's auto-annotation functions: Python files with `spec` or `create`.

The file runs once, in an environment with its packages, for its spec. In the new function
`fnbuild.vision.sdk_functions` calls it.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fnbuild
from fnbuild.bridges.imported_function import (
    REQUIREMENTS_FILE,
    ImportedFunction,
    read_text,
    requirements_text,
)
from fnbuild.builder.environment import ensure_environment
from fnbuild.builder.interpreter import choose_interpreter
from fnbuild.builder.requirements import collect_requirements
from fnbuild.errors import InputError
from fnbuild.function.label_sources import RawLabel
from fnbuild.function.labels import skeleton_svg
from fnbuild.function.reader import load_function
from fnbuild.progress import Progress

PACKAGES = ("cvat-sdk[masks]>=2.80,<3",)
_SCRIPT = Path(fnbuild.__file__).parent / "vision" / "sdk_loading.py"
# The folder of the script must not be on the path: its modules have general names.
_RUN_SCRIPT = "import runpy, sys; del sys.argv[0]; runpy.run_path(sys.argv[0], run_name='__main__')"
_TIMEOUT_SECONDS = 600
_FUNCTION_FILE = "sdk_function.py"
"""The name of the function's file if its own is the name of the new main module."""

_MAIN = '''\
"""The cvat-sdk function in FILE_NAME, as a function of CVAT."""

import os

from fnbuild import vision
from fnbuild.vision.sdk_functions import SdkFunction


class Adapter(SdkFunction):
    file = os.path.join(os.path.dirname(os.path.abspath(__file__)), "FILE_NAME")
    # True: return polygons in place of masks.
    conv_mask_to_poly = False


init_context, handler = vision.export(Adapter)
'''


@dataclass(frozen=True, slots=True)
class SdkModule:
    """A file with a function of cvat-sdk.

    `parameters` are those of `create`; `packages` are installed for the function; `python` is an
    interpreter that can import the file, "" for an environment made from the packages.
    """

    file: Path
    parameters: Mapping[str, Any] = field(default_factory=dict)
    packages: Sequence[str] = ()
    python: str = ""


def function_files(module: SdkModule, name: str, progress: Progress) -> dict[str, str]:
    """Return the files of a function that calls the module, by name.

    Raises `InputError` if the file is no function of cvat-sdk, or cannot be imported.
    """
    file_name = _FUNCTION_FILE if module.file.name == "main.py" else module.file.name
    files = {
        file_name: read_text(module.file),
        "main.py": _MAIN.replace("FILE_NAME", file_name),
    }
    if requirements := requirements_text(module.file.parent, module.packages):
        files[REQUIREMENTS_FILE] = requirements
    description = f"The cvat-sdk function of {module.file.name}"
    env = {"FUNCTION_PARAMETERS": json.dumps(module.parameters)} if module.parameters else {}
    blank = ImportedFunction(name, description, packages=PACKAGES, env=env)
    python = module.python or _environment(blank, files, progress)
    spec = _read_spec(module, python)
    annotations = spec["annotations"]
    function = ImportedFunction(
        name,
        description,
        annotations if "version" in annotations else {**annotations, "version": "1"},
        [_label(label) for label in spec["labels"]],
        PACKAGES,
        env,
    )
    return {"function.yaml": function.config_text(), **files}


def _environment(function: ImportedFunction, files: Mapping[str, str], progress: Progress) -> str:
    """Return the Python of the environment that a deploy of the function uses as well."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for name, text in {**files, "function.yaml": function.config_text()}.items():
            (folder / name).write_text(text, encoding="utf-8")
        loaded = load_function(folder).function
        requirements = collect_requirements(loaded, folder)
        python = ensure_environment(choose_interpreter(loaded), requirements, progress)
    assert python is not None
    return str(python)


def _read_spec(module: SdkModule, python: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder, "spec.json")
        words = (_SCRIPT, module.file.absolute(), json.dumps(module.parameters), output)
        try:
            done = subprocess.run(
                [python, "-c", _RUN_SCRIPT, *map(str, words)],
                cwd=module.file.absolute().parent,
                capture_output=True,
                text=True,
                timeout=_TIMEOUT_SECONDS,
                check=False,
            )
        except OSError as error:
            raise InputError(
                f"cannot run {python}: {error.strerror}", hint="`--python` names an interpreter"
            ) from None
        except subprocess.TimeoutExpired:
            raise InputError(f"{module.file} took more than {_TIMEOUT_SECONDS} s to load") from None
        if done.returncode or not output.is_file():
            raise _load_error(module, done.stderr)
        spec: dict[str, Any] = json.loads(output.read_text(encoding="utf-8"))
        return spec


def _load_error(module: SdkModule, errors: str) -> InputError:
    last = (errors.strip().splitlines() or ["no message"])[-1]
    hint = "mend the file; the traceback is above"
    if last.startswith(("ModuleNotFoundError", "ImportError")):
        hint = (
            "`--requirement PACKAGE`, or a requirements.txt beside the file, installs what it"
            " imports; `--python PATH` is an interpreter that has it"
        )
    elif "create() missing" in last or "__init__() missing" in last:
        hint = "`--parameter NAME=TYPE:VALUE` sets a parameter, as for cvat-cli"
    return InputError(f"{module.file} cannot be loaded: {last}", hint=hint, detail=errors.strip())


def _label(label: RawLabel) -> RawLabel:
    """Return a label with all that CVAT needs for its type."""
    complete = {"type": "any", **label}
    if complete["type"] == "skeleton":
        names = [sublabel["name"] for sublabel in label.get("sublabels", ())]
        complete.setdefault("svg", skeleton_svg(names, []))
    return complete
