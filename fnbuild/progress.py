"""Progress messages."""

from collections.abc import Callable

Progress = Callable[[str], None]
"""A callback for progress messages: one short sentence for each step that starts or ends."""
