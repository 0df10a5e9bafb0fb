"""A function's configuration as platforms record it."""

from __future__ import annotations

import msgspec

from fnbuild.builder.staging import Artifact
from fnbuild.spec.rules import complete
from fnbuild.spec.secrets import refuse_masked, without_secrets
from fnbuild.spec.types import Function, Raw, to_dict

PREVIOUS_STATE = "nuclio.io/previous-state"

# Nuclio's export writes these so that an import does not start anything by itself
# (pkg/functionconfig/types.go, PrepareFunctionForExport); a deploy takes them off again.
_SKIP_ANNOTATIONS = ("skip-build", "skip-deploy", PREVIOUS_STATE)


def without_skip(function: Function) -> Function:
    """The function, free to start."""
    kept = {
        key: value
        for key, value in function.metadata.annotations.items()
        if key not in _SKIP_ANNOTATIONS
    }
    metadata = msgspec.structs.replace(function.metadata, annotations=kept)
    return msgspec.structs.replace(function, metadata=metadata)


def of_import(function: Function) -> tuple[Function, Artifact] | None:
    """What an imported function is deployed from: the image of which its configuration speaks, as
    the export has it of what ran. None where it names none.
    """
    image = function.spec.image
    if not image:
        return None
    refuse_masked(to_dict(function))
    exact = image if "@sha256:" in image else ""
    return complete(without_skip(function)), Artifact("image", image, "", pinned=exact)


def config_of(function: Function) -> Raw:
    """What somebody wants, without what was the case and without secrets."""
    kept = {key: value for key, value in to_dict(function).items() if key != "status"}
    return without_secrets(kept)
