"""Rules on what a function is: its name, runtime, handler, time limit, variables and build."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from fnbuild.function.files import display_path
from fnbuild.function.kserve_settings import needs_code
from fnbuild.function.quantities import parse_duration
from fnbuild.function.rule_context import RuleContext
from fnbuild.function.secret_detection import SECRET_ENV_ANNOTATION, declared_secrets
from fnbuild.function.source_text import quoted
from fnbuild.function.suggestions import closest, did_you_mean
from fnbuild.function.torchserve_settings import serves_tree
from fnbuild.function.types import EnvVar, FieldPath, Function
from fnbuild.runtime.storage.uris import (
    SHA256_VARIABLE,
    URI_VARIABLE,
    StorageUriError,
    parse_storage_uri,
)
from fnbuild.runtime.torchserve import MANIFEST_PATH

RESERVED_NAMES = frozenset({"dashboard", "controller", "dlx", "scaler"})
MAX_NAME_LENGTH = 63
_NEWEST_PYTHON_MINOR = 15  # Python 3.15, of October 2026

NAME_PATTERN = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*\Z")
_NAMESPACE = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\Z")
_HANDLER_PATTERN = re.compile(r"([\w|-]+(\.[\w|-]+)*):(\w+)\Z")
_PYTHON_RUNTIME = re.compile(r"python:(\d+)\.(\d+)(\.\d+)?\Z")
_VARIABLE_NAME = re.compile(r"[A-Za-z_.-][A-Za-z0-9_.-]*\Z")
_IMAGE_REFERENCE = re.compile(
    r"([a-zA-Z0-9.-]+(:[0-9]+)?/)?[a-z0-9]+([._/-]+[a-z0-9]+)*"
    r"(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(@[A-Za-z0-9+._-]+:[0-9a-fA-F]{32,})?\Z"
)
_REGISTRY = re.compile(r"(https?://)?[A-Za-z0-9][A-Za-z0-9.-]*(:[0-9]+)?(/[\w./-]*)?\Z")
DOCKERFILE_INSTRUCTIONS = (
    "ADD", "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "HEALTHCHECK", "LABEL",
    "MAINTAINER", "ONBUILD", "RUN", "SHELL", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR", "FROM",
)  # fmt: skip
_MAX_PIXELS = "FNBUILD_MAX_PIXELS"  # of `fnbuild.vision`, which reads it at a request
_SHA256 = re.compile(r"([0-9a-fA-F]{64})?\Z")
_CODE_ENTRY_TYPES = ("sourceCode", "archive", "github", "git", "s3", "image", "jar")


def image_name(name: str) -> str:
    """Return a valid image name: lower case, without repeated or trailing separators."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def check_name(context: RuleContext) -> None:
    """Check that the name is valid for Nuclio, Docker and CVAT's URLs, and is not reserved."""
    path = ("metadata", "name")
    text = context.function.metadata.name
    if not text:
        hint = "add `name:` under `metadata`, or set a name on the command line"
        context.error("name-missing", "the function has no metadata.name", path, hint)
    elif text in RESERVED_NAMES:
        context.error("name-reserved", f"{quoted(text)} is reserved for a part of Nuclio", path)
    elif not NAME_PATTERN.match(text):
        message = f"{quoted(text)} cannot be a function's name"
        hint = "use letters, digits, '-', '_' and '.', starting with a letter or a digit"
        context.error("name", message, path, hint)
    elif len(text) > MAX_NAME_LENGTH:
        message = f"the name has {len(text)} characters; {MAX_NAME_LENGTH} is the most"
        context.error("name", message, path)


def check_namespace(context: RuleContext) -> None:
    """Check that the namespace is a DNS label."""
    text = context.function.metadata.namespace
    if text and not _NAMESPACE.match(text):
        message = f"{quoted(text)} cannot be a namespace"
        hint = "use up to 63 lower-case letters, digits and '-'"
        context.error("namespace", message, ("metadata", "namespace"), hint)


def check_runtime(context: RuleContext) -> None:
    """Check that the runtime is Python 3.6 or later. Nuclio itself offers fewer versions."""
    path = ("spec", "runtime")
    text = context.written.spec.runtime
    if text in ("", "python"):
        return
    version = _PYTHON_RUNTIME.match(text)
    if not version:
        hint = "as in `runtime: python:3.9`"
        if number := re.fullmatch(r"python[- ]?(\d[\d.]*)", text):
            hint = f"a colon separates the version: python:{number[1]}"
        message = f"{quoted(text)} is not a runtime; functions are Python, python:3.6 or later"
        context.error("runtime", message, path, hint)
    elif (int(version[1]), int(version[2])) < (3, 6):
        hint = "python:3.6 is the oldest that works"
        context.error("runtime", f"Python {version[1]}.{version[2]} is too old", path, hint)
    elif int(version[1]) > 3:
        context.error("runtime", f"there is no Python {version[1]}.{version[2]}", path)
    elif int(version[2]) > max(_NEWEST_PYTHON_MINOR, sys.version_info.minor):
        message = (
            f"Python {version[1]}.{version[2]} is not known; the newest is 3.{_NEWEST_PYTHON_MINOR}"
        )
        context.warning("runtime", message, path)


def check_handler(context: RuleContext) -> None:
    """Check that the handler is `module:function`, and that the module exists."""
    path = ("spec", "handler")
    text = context.function.spec.handler
    match = _HANDLER_PATTERN.match(text)
    if not match:
        message = f"{quoted(text)} is not a handler"
        hint = "a handler is `module:function`, as in `main:handler`"
        context.error("handler", message, path, hint)
        return
    module = match[1]
    if module.endswith(".py"):
        hint = f"leave the .py out: {module.removesuffix('.py')}:{match[3]}"
        context.error("handler", "a handler names a module, not a file", path, hint)
        return
    _check_handler_module(context, module)


def check_script_arguments(context: RuleContext) -> None:
    """Check that the arguments of a model's script are a list of texts."""
    arguments = context.function.spec.runtime_attributes.get("arguments")
    if arguments is None:
        return
    path = ("spec", "runtimeAttributes", "arguments")
    hint = "as in `arguments: [--predictor_host, localhost:8081]`"
    if not isinstance(arguments, list):
        message = f"arguments is a list of texts, not {quoted(arguments)}"
        context.error("script-arguments", message, path, hint)
        return
    for number, argument in enumerate(arguments):
        if isinstance(argument, bool) or not isinstance(argument, (str, int, float)):
            message = f"an argument is a text, not {quoted(argument)}"
            context.error("script-arguments", message, (*path, number), hint)


def code_folder(context: RuleContext) -> Path | None:
    """Return the folder with the handler's module, or None if the code is elsewhere."""
    code, build = context.code, context.function.spec.build
    elsewhere = build.function_source_code or build.path not in ("", ".", "./")
    if code is None or elsewhere or build.code_entry_type not in ("", "sourceCode"):
        return None
    return code if code.is_dir() else code.parent


def is_archive(folder: Path | None) -> bool:
    """Return True for a folder with an archive of TorchServe, whose handler may be TorchServe's."""
    return folder is not None and folder.joinpath(MANIFEST_PATH).is_file()


def _check_handler_module(context: RuleContext, module: str) -> None:
    folder, function = code_folder(context), context.function
    if not needs_code(function) or serves_tree(function) or is_archive(folder):
        return
    if folder is None or _module_exists(folder, module) or context.function.spec.image:
        return
    others = sorted(file.stem for file in folder.glob("*.py"))
    word = closest(module, others) or (others[0] if len(others) == 1 else None)
    hint = (
        f"did you mean {word}:{context.function.spec.handler.partition(':')[2]}?" if word else None
    )
    place = display_path(folder)
    message = f"the handler's module {quoted(module)} is not in {place}"
    if not context.written.spec.handler:
        message = f"no handler is given, and {quoted(module)} is not in {place}"
    context.warning("handler-module", message, ("spec", "handler"), hint)


def _module_exists(folder: Path, module: str) -> bool:
    base = folder.joinpath(*module.split("."))
    try:
        return base.with_name(f"{base.name}.py").is_file() or base.is_dir()
    except OSError:
        # An invalid file name, or no permission to read the folder.
        return False


def check_event_timeout(context: RuleContext) -> None:
    """Check that the time limit of an event is a duration above zero."""
    text = context.function.spec.event_timeout
    if text:
        check_positive_duration(context, "eventTimeout", text, ("spec", "eventTimeout"))


def check_positive_duration(context: RuleContext, what: str, text: str, path: FieldPath) -> None:
    """Report a text that is not a Go duration above zero."""
    hint = "as in 30s, 500ms or 1h30m"
    if text.strip().replace(".", "", 1).isdigit():
        hint = f"a duration needs its unit: {text.strip()}s"
    try:
        seconds = parse_duration(text)
    except ValueError:
        context.error("duration", f"{what}: {quoted(text)} is not a duration", path, hint)
        return
    if seconds <= 0:
        context.error("duration", f"{what} must be above zero, not {text}", path)


def check_variables(context: RuleContext) -> None:
    """Check that environment variables have valid and unique names."""
    seen: set[str] = set()
    for index, variable in enumerate(context.written.spec.env):
        path = ("spec", "env", index, "name")
        if not _VARIABLE_NAME.match(variable.name):
            message = f"{quoted(variable.name)} cannot be the name of an environment variable"
            context.error("env-name", message, path)
        if variable.name in seen:
            message = f"the variable {quoted(variable.name)} is set twice; the last one wins"
            context.warning("env-twice", message, path)
        seen.add(variable.name)
        if variable.value and variable.value_from:
            message = f"{variable.name} has both value and valueFrom; Kubernetes accepts one"
            context.error("env-two-values", message, ("spec", "env", index, "valueFrom"))
        _check_model_variable(context, variable, ("spec", "env", index, "value"))
        if (
            variable.name == _MAX_PIXELS
            and variable.value
            and not _is_positive_integer(variable.value)
        ):
            message = (
                f"{_MAX_PIXELS} is a number of pixels above zero, not {quoted(variable.value)}"
            )
            hint = 'as in "134217728", which is 128 megapixels'
            context.error("env-pixels", message, ("spec", "env", index, "value"), hint)


def _check_model_variable(context: RuleContext, variable: EnvVar, path: FieldPath) -> None:
    if variable.name == SHA256_VARIABLE and not _SHA256.match(variable.value):
        message = f"{SHA256_VARIABLE}: {quoted(variable.value)} is not a sha256"
        context.error("storage-sha256", message, path, "it has 64 hexadecimal digits")
    if variable.name == URI_VARIABLE and variable.value:
        try:
            parse_storage_uri(variable.value)
        except StorageUriError as error:
            message = f"{URI_VARIABLE}: {error.message}"
            context.error("storage-uri", message, path, error.hint)


def _is_positive_integer(text: str) -> bool:
    return text.strip().isdecimal() and int(text) > 0


def check_declared_secrets(context: RuleContext) -> None:
    """Check that variables that are declared to be secrets are set."""
    path = ("metadata", "annotations", SECRET_ENV_ANNOTATION)
    declared = declared_secrets(context.function.metadata.annotations)
    for message, hint in unset_secrets(context.function, declared):
        context.warning("secret-env-unset", message, path, hint)


def unset_secrets(function: Function, declared: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield a message and a hint for each declared secret that no variable sets.

    Nothing is yielded with `envFrom`, because only the cluster knows all variables then.
    """
    spec = function.spec
    containers = [*spec.sidecars, *spec.init_containers]
    if spec.env_from or any(container.get("envFrom") for container in containers):
        return
    names = {variable.name for variable in spec.env}
    for container in containers:
        variables = container.get("env") or ()
        names |= {str(variable.get("name")) for variable in variables if isinstance(variable, dict)}
    for missing in sorted(set(declared) - names):
        word = closest(missing, names)
        question = f"did you mean {word}? " if word else ""
        yield (
            f"the variable {quoted(missing)} is declared to be a secret, but the function"
            " does not set it",
            f"{question}`--secret-env {missing}=VALUE` sets it",
        )


def check_images(context: RuleContext) -> None:
    """Check that names of images and registries are valid for Docker."""
    spec, build = context.function.spec, context.function.spec.build
    for path, text in (
        (("spec", "image"), spec.image),
        (("spec", "build", "image"), build.image),
        (("spec", "build", "baseImage"), build.base_image),
    ):
        if text and not _IMAGE_REFERENCE.match(text):
            hint = "as in registry.example.com:5000/team/name:tag, in lower case"
            message = f"{quoted(text)} is not the name of an image"
            context.error("image", message, path, hint)
    for path, text in (
        (("spec", "runRegistry"), spec.run_registry),
        (("spec", "build", "registry"), build.registry),
        (("spec", "build", "baseImageRegistry"), build.base_image_registry),
    ):
        if text and not _REGISTRY.match(text):
            context.error("registry", f"{quoted(text)} is not the name of a registry", path)


def check_build(context: RuleContext) -> None:
    """Check that commands and directives are not combined, and that directives are valid."""
    spec = context.function.spec.build
    directives = spec.directives
    place = ("spec", "build", "directives")
    if spec.commands and (directives.pre_copy or directives.post_copy):
        message = "directives are ignored, because build.commands is set as well"
        context.warning("directives-ignored", message, place, "keep one of the two", "key")
    for side, items in (("preCopy", directives.pre_copy), ("postCopy", directives.post_copy)):
        for index, directive in enumerate(items):
            if problem := directive_problem(directive.kind, directive.value):
                message, hint = problem
                context.error("directive", message, (*place, side, index, "kind"), hint)
    if spec.mode not in ("", "neverBuild", "alwaysBuild"):
        message = f"build.mode is neverBuild or alwaysBuild, not {quoted(spec.mode)}"
        context.error("build-mode", message, ("spec", "build", "mode"))


def directive_problem(kind: str, value: str) -> tuple[str, str | None] | None:
    """Return message and hint for a directive that a Dockerfile cannot have, else None."""
    if kind.upper() not in DOCKERFILE_INSTRUCTIONS:
        hint = did_you_mean(kind, DOCKERFILE_INSTRUCTIONS)
        return f"{quoted(kind)} is not a Dockerfile instruction", hint
    if kind.upper() == "FROM":
        hint = "spec.build.baseImage names the base; `COPY --from=IMAGE` takes files of another"
        return "FROM is not allowed in a directive: the build has one stage", hint
    return None if value.strip() else (f"{kind} has no value", None)


def check_code_entry(context: RuleContext) -> None:
    """Check that Nuclio supports the origin of the code, and that its attributes are set."""
    spec = context.function.spec.build
    path = ("spec", "build", "codeEntryType")
    kind, attributes = spec.code_entry_type, spec.code_entry_attributes
    if kind and kind not in _CODE_ENTRY_TYPES:
        message = f"{quoted(kind)} is not a codeEntryType"
        context.error("code-entry", message, path, did_you_mean(kind, _CODE_ENTRY_TYPES))
    needs = {"s3": ("s3Bucket", "s3ItemKey"), "github": ("branch",)}.get(kind, ())
    for key in needs:
        if not attributes.get(key):
            message = f"codeEntryType {kind} needs codeEntryAttributes.{key}"
            context.error("code-entry", message, path)
    if kind == "git" and not any(attributes.get(key) for key in ("branch", "tag", "reference")):
        message = "codeEntryType git needs a branch, a tag or a reference in codeEntryAttributes"
        context.error("code-entry", message, path)
    if kind == "git":
        present = {name.lower() for name, value in attributes.items() if value}
        if len(present & {"clientcert", "clientkey"}) == 1:
            message = "codeEntryAttributes has one of clientCert and clientKey; git needs both"
            context.error("code-entry", message, path)
    if spec.function_source_code:
        try:
            spec.decode_source_code()
        except ValueError:
            message = "functionSourceCode is not base64"
            hint = "encode the file: base64 -w0 main.py"
            context.error("source-code", message, ("spec", "build", "functionSourceCode"), hint)
