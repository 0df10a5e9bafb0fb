"""Base images with software that is missing on a platform without containers."""

from __future__ import annotations

import os

from fnbuild.spec.types import Function

_PLAIN = frozenset(
    {
        "python",
        "pypy",
        "miniconda",
        "miniconda3",
        "anaconda",
        "anaconda3",
        "mambaforge",
        "micromamba",
        "miniforge",
        "miniforge3",
    }
)
"""Last parts of the names of images that have Python or conda and no further packages."""


def unused_base_image(function: Function) -> str:
    """Return the function's base image if its packages are missing without containers.

    "" if the base image is plain Python or conda, or if NUCLIO_PYTHON_EXE_PATH names an interpreter
    that exists on this machine, which then has the packages.
    """
    image = function.spec.build.base_image
    name = image.partition("@")[0].rpartition("/")[2].partition(":")[0]
    if not name or name in _PLAIN:
        return ""
    for variable in function.spec.env:
        if variable.name == "NUCLIO_PYTHON_EXE_PATH" and os.access(variable.value, os.X_OK):
            return ""
    return image
