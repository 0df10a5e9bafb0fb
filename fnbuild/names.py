"""Labels, names and paths that several packages use, and the platforms."""

from typing import NamedTuple


class PlatformEntry(NamedTuple):
    """The registration of a platform: its name, its package, and another name for it.

    The package defines `connect(options: ConnectOptions) -> Platform`.
    """

    name: str
    package: str
    alias: str = ""


PLATFORMS = (
    PlatformEntry("process", "fnbuild.platforms.process"),
    PlatformEntry("local", "fnbuild.platforms.docker", alias="docker"),
    PlatformEntry("kube", "fnbuild.platforms.kubernetes", alias="kubernetes"),
    PlatformEntry("nuclio", "fnbuild.platforms.nuclio"),
    PlatformEntry("kserve", "fnbuild.platforms.kserve"),
    PlatformEntry("torchserve", "fnbuild.platforms.torchserve"),
)
"""All platforms. `--platform auto` tries later ones first."""

DEFAULT_PLATFORM = "process"

DEFAULT_NAMESPACE = "nuclio"

PROJECT_LABEL = "nuclio.io/project-name"
"""The label of a function that names its project."""

FUNCTION_LABEL = "nuclio.io/function-name"
"""The label of an object or a request that names its function."""

DEFAULT_PROJECT = "default"
"""The project of functions without that label. It always exists."""

CODE_FOLDER = "/opt/nuclio"
"""The folder of a function's code, as its workers see it."""

RUNTIME_FOLDER = "/opt/fnbuild"
"""The folder of fnbuild's runtime in an image."""

PROCESSOR_PATH = "/usr/local/bin/processor"
"""The program of the processor in an image."""
