"""Two layers of an environment: published packages below, the function's own packages above.

A function's own packages are edited often, and published ones hardly ever. So the published ones
are installed once, into a base environment. The function's packages go into a second environment
that extends it, which takes seconds.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from fnbuild.build.requirement_files import looks_local, split_extras
from fnbuild.build.requirements import Requirements, Step

# With these options pip reinstalls existing packages, so that a base environment saves nothing.
_FORCING = frozenset(("-U", "--upgrade", "-I", "--ignore-installed", "--force-reinstall"))
_VALUES = frozenset(("-f", "--find-links"))


def published(requirements: Requirements) -> Requirements | None:
    """Return the requirements of the base environment; None if it would be of no use.

    They are all but the function's own packages, and include the dependencies of those packages
    that `pyproject.toml` declares.
    """
    steps = requirements.steps
    if not any(step.sources for step in steps) or any(_is_unfit(step) for step in steps):
        return None
    remaining = [step for step in map(_without_own, steps) if step.packages]
    if not remaining or tuple(remaining) == steps:
        return None
    return replace(requirements, steps=tuple(remaining))


def _is_unfit(step: Step) -> bool:
    return step.verb != "install" or not _FORCING.isdisjoint(step.arguments)


def _without_own(step: Step) -> Step:
    lines = [line for line in step.requirements if not _is_own(line)]
    arguments = [
        word
        for before, word in zip(("", *step.arguments), step.arguments, strict=False)
        if before in _VALUES or not _names(word, step.sources)
    ]
    packages = [name for name in step.packages if not _is_own(name)]
    places = dict(step.places)
    for text in (*step.requirements, *step.arguments):
        for needed in _dependencies(text, step.sources):
            lines.append(needed)
            packages.append(needed)
            places.setdefault(needed, step.place)
    lines = list(dict.fromkeys(lines))
    used = [
        source
        for source in step.sources
        if any(str(source) in text for text in (*lines, *arguments, *step.constraints))
    ]
    return replace(
        step,
        arguments=tuple(arguments),
        requirements=tuple(lines),
        sources=tuple(used),
        packages=tuple(dict.fromkeys(packages)),
        places=places,
    )


def _is_own(requirement: str) -> bool:
    return looks_local(_name(requirement)[0])


def _name(requirement: str) -> tuple[str, str]:
    return split_extras(requirement.partition(";")[0].strip())


def _names(word: str, sources: Sequence[Path]) -> bool:
    return any(_name(word)[0] == str(source) for source in sources)


def _dependencies(text: str, sources: Sequence[Path]) -> list[str]:
    """Return the declared dependencies of a package of the function.

    The list is empty if only a build of the package would reveal them.
    """
    name, extras = _name(text)
    if not _names(text, sources) or not Path(name).is_dir():
        return []
    try:
        project = tomllib.loads(Path(name, "pyproject.toml").read_text())["project"]
        dependencies = [*project.get("dependencies", [])]
        optional = project.get("optional-dependencies", {})
        for extra in filter(None, extras.strip("[]").replace(" ", "").split(",")):
            dependencies += optional.get(extra, [])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []
    # pip handles a package that depends on itself with another extra, or on a folder.
    itself = str(project.get("name", "")).lower()
    return [
        dependency
        for dependency in dependencies
        if isinstance(dependency, str)
        and "@ file:" not in dependency
        and not dependency.lower().startswith(f"{itself}[")
    ]
