"""Labels, names and paths that several packages use."""

PROJECT_LABEL = "nuclio.io/project-name"
"""The label of a function that names its project."""

DEFAULT_PROJECT = "default"
"""The project of functions without that label. It always exists."""

CODE_FOLDER = "/opt/nuclio"
"""The folder of a function's code, as its workers see it."""

RUNTIME_FOLDER = "/opt/fnbuild"
"""The folder of fnbuild's runtime in an image."""

PROCESSOR_PATH = "/usr/local/bin/processor"
"""The program of the processor in an image."""
