"""The base image of a build: which one it is, and that the engine has it."""

from __future__ import annotations

from fnbuild.build import requirements
from fnbuild.build.image import cuda
from fnbuild.build.image.engine import Engine, ImageFacts, Progress
from fnbuild.errors import BuildError
from fnbuild.spec.reader import Loaded
from fnbuild.spec.types import Build


def fetch(loaded: Loaded, engine: Engine, progress: Progress) -> str:
    """Have the base image of a function in the engine, for later builds; its name."""
    wanted = requirements.collect(loaded.function, loaded.folder, image=True)
    base = cuda.base_of(loaded.function, wanted.packages).image
    if engine.inspect(base) is None:
        engine.pull(base, progress)
    return base


def had(
    base: str, build: Build, engine: Engine, progress: Progress
) -> tuple[ImageFacts | None, tuple[str, ...]]:
    """What the base image says of itself, fetched when it is not there; and warnings.

    With `noCache` it is fetched anew, unless that is forbidden. `BuildError` when there is none.
    """
    facts = engine.inspect(base)
    never = build.no_base_images_pull or build.offline
    if facts is None and never:
        flag = "offline" if build.offline else "noBaseImagesPull"
        raise BuildError(
            f"the base image {base} is not here, and spec.build.{flag} forbids to fetch it",
            hint=f"fetch it before (`{engine.name} pull {base}`), or load it from an archive",
        )
    if facts is not None and (never or not build.no_cache):
        return facts, ()
    try:
        engine.pull(base, progress)
    except BuildError as error:
        if facts is None:
            raise
        # Many base images exist on one machine only.
        return facts, (f"{error.message}; the base image that is here is used",)
    return engine.inspect(base), ()
