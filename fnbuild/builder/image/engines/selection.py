"""Select the container engine: the requested one, else the first that answers."""

from __future__ import annotations

import os
import shutil

from fnbuild.builder.image.engine import Engine
from fnbuild.builder.image.engines.buildah import Buildah
from fnbuild.builder.image.engines.docker import Docker
from fnbuild.builder.image.engines.errors import clean_output
from fnbuild.builder.image.engines.podman import Podman
from fnbuild.errors import UnavailableError, UsageError

ENGINE_NAMES = ("docker", "podman", "buildah")


def choose_engine(name: str = "") -> Engine:
    """Return the engine of that name, else of FNBUILD_ENGINE, else the first that answers.

    If DOCKER_HOST or DOCKER_CONTEXT names a docker that does not answer, no other engine is
    selected. `UnavailableError` gives the reason for each engine.
    """
    engines = (Docker(), Podman(), Buildah())
    requested = name or os.environ.get("FNBUILD_ENGINE", "")
    if requested:
        for engine in engines:
            if engine.name == requested:
                engine.check()
                return engine
        variable = "" if name else "FNBUILD_ENGINE="
        raise UsageError(
            f"{variable}{requested} is not a supported container engine",
            hint=f"supported: {', '.join(ENGINE_NAMES)}",
        )
    errors = []
    for engine in engines:
        try:
            engine.check()
        except UnavailableError as error:
            if engine.name == "docker" and shutil.which(engine.program):
                _reject_other_engines(error)
            errors.append(error)
        else:
            engine.selection_reason = "; ".join(error.message for error in errors)
            return engine
    raise UnavailableError(
        "an image needs a container engine, and none answers: "
        + "; ".join(error.message for error in errors),
        hint=errors[0].hint,
    )


def _reject_other_engines(error: UnavailableError) -> None:
    """Raise an error if the environment names a docker: others do not have its images."""
    for variable, place in (("DOCKER_HOST", "at {}"), ("DOCKER_CONTEXT", "in the context {}")):
        value = os.environ.get(variable)
        if value:
            where = place.format(clean_output(value))
            reason = error.message.removeprefix("docker does not answer: ")
            raise UnavailableError(
                f"docker does not answer {where} ({variable}): {reason}",
                hint=f"start it, or unset {variable}; `FNBUILD_ENGINE=podman` builds with another",
            ) from error
