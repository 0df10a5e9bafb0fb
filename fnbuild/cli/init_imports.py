"""Options of `fnbuild init` for functions from code of other frameworks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click
from click import option

from fnbuild.cli.init_models import labels_of_option
from fnbuild.cli.options import combine_options

_FILE = click.Path(path_type=Path, dir_okay=False, exists=True)
_FOLDER = click.Path(path_type=Path, file_okay=False, exists=True)
_ONLY_FOR = {
    "labels": "--labels",
    "parameters": "--parameter",
    "packages": "--requirement",
    "python": "--python",
}
# The values that cvat-cli takes.
_BOOLEANS = {
    **dict.fromkeys(("true", "t", "yes", "y", "on", "1"), True),
    **dict.fromkeys(("false", "f", "no", "n", "off", "0"), False),
}
_TYPES: Mapping[str, Callable[[str], object]] = {
    "int": int,
    "float": float,
    "str": str,
    "bool": lambda text: _BOOLEANS[text.lower()],
}


def _parse_parameters(
    _ctx: click.Context, _param: click.Parameter, values: tuple[str, ...]
) -> dict[str, object]:
    parameters = {}
    for text in values:
        name, equals, rest = text.partition("=")
        kind, colon, value = rest.partition(":")
        try:
            if not (name and equals and colon):
                raise ValueError
            parameters[name] = _TYPES[kind](value)
        except (KeyError, ValueError):
            raise click.BadParameter(
                f'"{text}" is not NAME=TYPE:VALUE, with TYPE {", ".join(_TYPES)}'
            ) from None
    return parameters


import_options = combine_options(
    option("--from-sdk", type=_FILE, help="Python file with a function of cvat-sdk."),
    option("--from-endpoint", type=_FOLDER, help="Folder with an EndpointHandler (Hugging Face)."),
    option(
        "--labels",
        metavar="SOURCE",
        default="",
        help="Labels: a file, a label set, or names, as in cat,dog.",
    ),
    option(
        "-p",
        "--parameter",
        "parameters",
        metavar="NAME=TYPE:VALUE",
        multiple=True,
        callback=_parse_parameters,
        help="Parameter of the file's `create`, as for cvat-cli.",
    ),
    option(
        "--requirement",
        "packages",
        metavar="PACKAGE",
        multiple=True,
        help="Package that the code imports.",
    ),
    option("--python", default="", metavar="PATH", help="Interpreter that can import the file."),
)


def with_detected_code(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options; `--from` becomes that of code if it names a Python file or a handler."""
    from fnbuild.bridges.endpoint_handlers import HANDLER_FILE, is_endpoint_folder

    code = options["from_model"] and Path(options["from_model"])
    if code and code.suffix == ".py" and code.is_file():
        return {**options, "from_model": None, "from_sdk": options["from_sdk"] or code}
    if code and (code / HANDLER_FILE).is_file() and is_endpoint_folder(code):
        return {**options, "from_model": None, "from_endpoint": options["from_endpoint"] or code}
    return dict(options)


def imported_files(
    name: str,
    *,
    task: str | None,
    template: str | None,
    from_sdk: Path | None,
    from_endpoint: Path | None,
    **options: Any,
) -> Mapping[str, str | bytes | Path] | None:
    """Return the files of a function from other code; None if a template was asked for."""
    from fnbuild.errors import UsageError

    source = "--from-sdk" if from_sdk else "--from-endpoint"
    if from_sdk is None and from_endpoint is None:
        used = [option for key, option in _ONLY_FOR.items() if options[key]]
        if used:
            raise UsageError(
                f"{used[0]} is for functions from other code",
                hint="`--from-sdk FILE.py` or `--from-endpoint FOLDER` names the code",
            )
        return None
    if template is not None or (from_sdk and (task or from_endpoint or options["labels"])):
        raise UsageError(
            f"a function {source} has a kind of its own",
            hint=f"use {source} without options of templates and of other sources",
        )
    if from_endpoint is not None:
        return _endpoint_files(name, from_endpoint, task, options)
    from fnbuild.bridges.sdk_functions import SdkModule, function_files
    from fnbuild.cli.progress import ProgressDisplay

    with ProgressDisplay() as progress:
        keys = ("parameters", "packages", "python")
        module = SdkModule(Path(str(from_sdk)), **{key: options[key] for key in keys})
        return {**function_files(module, name, progress)}


def _endpoint_files(
    name: str, folder: Path, task: str | None, options: Mapping[str, Any]
) -> Mapping[str, str | bytes | Path]:
    from fnbuild.bridges.endpoint_handlers import LABEL_TYPES, EndpointFolder, function_files
    from fnbuild.errors import UsageError

    if options["parameters"] or options["python"]:
        raise UsageError("--parameter and --python are for functions of cvat-sdk")
    if task and task not in LABEL_TYPES:
        raise UsageError(
            f"the results of endpoint handlers for {task} are not known",
            hint=f"`--task` is one of {', '.join(LABEL_TYPES)}",
        )
    labels = labels_of_option(options["labels"])
    endpoint = EndpointFolder(folder, task or "", labels, options["packages"])
    return {**function_files(endpoint, name)}
