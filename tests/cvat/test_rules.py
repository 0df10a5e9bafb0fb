"""The catalogue of rules."""

from pathlib import Path

from fnbuild.cvat.rules import RULES, catalogue

ROOT = Path(__file__).parents[2]


def test_the_documented_catalogue_is_current() -> None:
    page = (ROOT / "docs/check.md").read_text()
    hint = "python -m fnbuild.cvat.rules docs/check.md"
    assert page.endswith(f"{catalogue()}\n"), hint


def test_rules_are_complete() -> None:
    for rule in RULES.values():
        assert rule.title
        assert rule.effect.endswith(".")
        assert rule.remedy
        assert "|" not in rule.title + rule.effect + rule.remedy
