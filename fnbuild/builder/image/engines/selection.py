"""Select the container engine: the one that is asked for, else the first that answers."""

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


def choose_engine(name: str | None = None) -> Engine:
    """The engine of that name, else of FNBUILD_ENGINE, else the first that answers.

    No other is taken for a docker that DOCKER_HOST or DOCKER_CONTEXT names and that does not
    answer. `UnavailableError` says of each what it lacks.
    """
    known = (Docker(), Podman(), Buildah())
    asked = name or os.environ.get("FNBUILD_ENGINE", "")
    if asked:
        for engine in known:
            if engine.name == asked:
                engine.check()
                return engine
        where = "" if name else "FNBUILD_ENGINE="
        raise UsageError(
            f"{where}{asked} is no container engine that fnbuild knows",
            hint=f"it knows {', '.join(ENGINE_NAMES)}",
        )
    lacks = []
    for engine in known:
        try:
            engine.check()
        except UnavailableError as error:
            if engine.name == "docker" and shutil.which(engine.program):
                _reject_other_engines(error)
            lacks.append(error)
        else:
            engine.why = "; ".join(error.message for error in lacks)
            return engine
    raise UnavailableError(
        "an image needs a container engine, and none answers: "
        + "; ".join(error.message for error in lacks),
        hint=lacks[0].hint,
    )


def _reject_other_engines(error: UnavailableError) -> None:
    """Raise when the environment says which docker is meant: an image elsewhere is none there."""
    for variable, place in (("DOCKER_HOST", "at {}"), ("DOCKER_CONTEXT", "in the context {}")):
        named = os.environ.get(variable)
        if named:
            where = place.format(clean_output(named))
            reason = error.message.removeprefix("docker does not answer: ")
            raise UnavailableError(
                f"docker does not answer {where} ({variable}): {reason}",
                hint=f"start it, or unset {variable}; `FNBUILD_ENGINE=podman` builds with another",
            ) from error
