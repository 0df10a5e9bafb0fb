"""Samples of relayed replies are checked, and their findings are in the API."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.dashboard.conftest import Dashboard, write_function
from tests.dashboard.waiting import until

pytestmark = pytest.mark.system

CODE = """\
import json

def handler(context, event):
    cars = [{"label": "Car", "type": "rectangle", "points": [1, 2, 30, 40]}] * 2
    return context.Response(body=json.dumps(cars), content_type="application/json")
"""
ANNOTATIONS = """\
  annotations:
    type: detector
    spec: '[{"name": "car"}]'
"""


def findings(dashboard: Dashboard, name: str) -> Any:
    answer = dashboard.request("GET", f"/api/functions/{name}/findings", token=False)
    assert answer.status == 200, answer.text
    return answer.json


def test_a_relayed_reply_is_checked(dashboard: Dashboard, tmp_path: Path) -> None:
    name = dashboard.deploy(write_function(tmp_path, "cars", CODE, annotations=ANNOTATIONS))
    assert findings(dashboard, name) == {"checked": 0, "faulty": 0, "findings": []}
    picture = io.BytesIO()
    Image.new("RGB", (64, 48)).save(picture, "PNG")
    body = {"image": base64.b64encode(picture.getvalue()).decode()}
    headers = {"X-Nuclio-Function-Name": name, "X-Nuclio-Path": "/"}
    for _ in range(3):
        answer = dashboard.request(
            "POST", "/api/function_invocations", json=body, headers=headers, token=False
        )
        assert json.loads(answer.text)[0]["label"] == "Car"
    until(lambda: findings(dashboard, name)["checked"], "a reply is checked")
    result = findings(dashboard, name)
    assert (result["checked"], result["faulty"]) == (1, 1)
    (finding,) = result["findings"]
    assert (finding["rule"], finding["path"]) == ("label-unknown", "[0].label")
    assert (finding["replies"], finding["severity"]) == (1, "warning")
    assert "car" in finding["remedy"]
