"""The card of findings about relayed replies."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page

pytestmark = pytest.mark.system

SCRIPT = """async watched => {
  const card = document.createElement("section");
  const { drawFindings } = await import("/static/reply_findings.js");
  drawFindings(card, watched);
  return [card.hidden, card.innerText || card.textContent, card.querySelectorAll("b").length];
}"""


def test_findings_are_shown_as_text(page: Page) -> None:
    finding = {
        "rule": "label-unknown",
        "severity": "warning",
        "path": "[0].label",
        "message": '"<b>Car</b>" is not in the spec',
        "effect": "The shape is missing.",
        "remedy": "correct its name",
        "replies": 2,
    }
    hidden, text, bold = page.evaluate(SCRIPT, {"checked": 5, "faulty": 3, "findings": [finding]})
    assert (hidden, bold) == (False, 0)
    assert "3 of 5 sampled replies" in text
    assert 'label-unknown in 2 of them. [0].label: "<b>Car</b>" is not in the spec' in text
    assert page.evaluate(SCRIPT, {"checked": 5, "faulty": 0, "findings": []})[0]
