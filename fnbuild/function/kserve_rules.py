"""Rules on the settings for KServe."""

from __future__ import annotations

from fnbuild.function.kserve_settings import ATTRIBUTE, SETTINGS_PATH, find_problems
from fnbuild.function.rule_context import RuleContext


def check_kserve_settings(context: RuleContext) -> None:
    """Check the names, values and combinations of the settings."""
    raw = context.function.spec.platform.attributes.get(ATTRIBUTE)
    if raw is None:
        return
    for problem in find_problems(raw):
        path = (*SETTINGS_PATH, *problem.path)
        context.error(
            "kserve", problem.message, path, problem.hint, "key" if problem.is_key else "value"
        )
