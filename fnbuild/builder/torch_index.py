"""PyTorch's index of CPU builds, for machines without an NVIDIA GPU.

The torch package on the default index for Linux depends on several GB of CUDA libraries. PyTorch
serves builds for the CPU from an index of its own; their versions end with `+cpu`, which pip
prefers to the same release without it.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterable
from dataclasses import replace
from functools import cache

from fnbuild.builder import pip
from fnbuild.builder.image.base_images import needs_torch
from fnbuild.builder.requirements import PipStep, Requirements
from fnbuild.function.platform_rules import gpu_count
from fnbuild.function.types import Function
from fnbuild.runtime import nvml

INDEX_VARIABLE = "FNBUILD_TORCH_CPU_INDEX"
"""The environment variable that names another index with CPU builds; empty for none."""

_DEFAULT_INDEX = "https://download.pytorch.org/whl/cpu"
_INDEX_OPTION = re.compile(
    r"-i\b|-f\b|--index-url\b|--extra-index-url\b|--no-index\b|--find-links\b"
)
_CONFIGURED_INDEX = re.compile(r"\.(?:index-url|extra-index-url|find-links|no-index)=")


def prefer_cpu_builds(requirements: Requirements, function: Function) -> Requirements:
    """Return the requirements with PyTorch's CPU index if a CPU build of torch is enough.

    A step stays as it is if the function has a GPU limit, if this machine has an NVIDIA GPU, or if
    the step itself names an index, a URL or a build of torch. It also stays if the user's pip
    configuration names an index; unless that index has CPU builds, the result has a warning.
    """
    steps = [step for step in requirements.steps if _takes_default_torch(step)]
    if not steps or gpu_count(function) or has_nvidia_driver():
        return requirements
    configured = _configured_indexes()
    if configured:
        if "cpu" in configured:
            return requirements
        warning = (
            "pip's configuration names the index of torch, which may bring several GB of CUDA"
            f" libraries that this machine cannot use: {_remedy()} installs the CPU build"
        )
        return replace(requirements, warnings=(*requirements.warnings, warning))
    if not _index():
        return requirements
    option = ("--extra-index-url", _index())
    new_steps = [
        replace(step, arguments=(*step.arguments, *option)) if step in steps else step
        for step in requirements.steps
    ]
    return replace(requirements, steps=tuple(new_steps))


def cuda_torch_warning(requirements: Requirements, function: Function) -> str:
    """Return a warning if an image for a function without a GPU gets torch with CUDA, else ""."""
    if (
        gpu_count(function)
        or has_nvidia_driver()
        or not any(map(_takes_default_torch, requirements.steps))
    ):
        return ""
    return (
        "torch brings several GB of CUDA libraries into the image, and the function has no"
        f" nvidia.com/gpu limit: {_remedy()} installs the CPU build"
    )


@cache
def has_nvidia_driver() -> bool:
    """Return True if NVIDIA's driver is on this machine."""
    try:
        nvml.load_library()
    except OSError:
        return False
    return True


def _index() -> str:
    return os.environ.get(INDEX_VARIABLE, _DEFAULT_INDEX)


def _remedy() -> str:
    return f"`--extra-index-url {_index() or _DEFAULT_INDEX}` beside torch in the requirements"


def _takes_default_torch(step: PipStep) -> bool:
    """Return True if the step installs torch without naming an index or a build of it."""
    if step.verb != "install" or not needs_torch(step.packages):
        return False
    lines: Iterable[str] = (*step.arguments, *step.requirements)
    return not any(_INDEX_OPTION.match(line.strip()) for line in lines) and not any(
        re.match(r"torch\w*\s*(@|.*\+c(pu|u\d))", package) for package in step.packages
    )


def _configured_indexes() -> str:
    """Return the lines of the user's pip configuration that name indexes or folders of wheels."""
    command = [*pip.own_pip_command(), "config", "list"]
    result = subprocess.run(
        command, env=pip.pip_environment(), capture_output=True, text=True, check=False
    )
    return "\n".join(line for line in result.stdout.splitlines() if _CONFIGURED_INDEX.search(line))
