"""What a deploy to a cluster says beforehand."""

from __future__ import annotations

import pytest

from fnbuild.platforms.kube.effects import literal_secrets, warnings_for
from fnbuild.spec.types import Raw
from tests.platforms.kube import specimens

GPU = {"limits": {"nvidia.com/gpu": "1"}}
AFFINITY = {
    "nodeAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [
                {"matchExpressions": [{"key": "nvidia.com/gpu.product", "operator": "Exists"}]}
            ]
        }
    }
}
FOLDER = {
    "volume": {"name": "data", "hostPath": {"path": "/srv/data"}},
    "volumeMount": {"name": "data", "mountPath": "/data"},
}


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        ({"nodeSelector": {"gpu": "true"}}, "nodeSelector gpu=true chooses a node with a GPU"),
        ({"nodeSelector": {"accelerator": "t4"}}, "the container may then see no GPU"),
        ({"affinity": AFFINITY}, "`--resource-limit nvidia.com/gpu=1` asks for one"),
        ({"volumes": [FOLDER]}, "not mounted, for pods may run on any node: data (/srv/data)"),
        ({"devices": ["/dev/video0"]}, "without effect on the kube platform: devices"),
        ({"scaleToZero": {"scaleResources": []}, "runtimeAttributes": {"a": 1}}, "scaleToZero, ru"),
        ({"minReplicas": 0, "maxReplicas": 2}, "minReplicas 0 counts as 1"),
        ({"triggers": {"a": {"kind": "kafka"}}}, "these kinds do not run here: kafka"),
        (
            {"triggers": {"web": {"kind": "http", "attributes": {"port": 8070}}}},
            "port 8070 is for a single machine: node ports are 30000 to 32767",
        ),
        (
            {"replicas": 2, "triggers": {"a": {"kind": "cron", "attributes": {"interval": "1h"}}}},
            "every replica runs the cron triggers for itself",
        ),
        (
            {"platform": {"attributes": {"restartPolicy": {"name": "on-failure"}}}},
            "restartPolicy on-failure means nothing here",
        ),
    ],
)
def test_one_sentence(spec: Raw, text: str) -> None:
    found = warnings_for(specimens.function(**spec))
    assert len(found) == 1
    assert text in found[0]


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"nodeSelector": {"gpu": "true"}, "resources": GPU},
        {"nodeSelector": {"zone": "east"}},
        {"replicas": 2, "minReplicas": 0},
        {"triggers": {"web": {"kind": "http", "attributes": {"port": 31000}}}},
        {
            "serviceType": "ClusterIP",
            "triggers": {"web": {"kind": "http", "attributes": {"port": 8070}}},
        },
        {"triggers": {"a": {"kind": "cron", "attributes": {"interval": "1h"}}}},
        {
            "platform": {
                "attributes": {
                    "restartPolicy": {"name": "always", "maximumRetryCount": 3},
                    "mountMode": "volume",
                    "network": "cvat",
                }
            }
        },
        {"serviceAccount": "reader", "tolerations": [{"operator": "Exists"}]},
    ],
)
def test_nothing_to_say(spec: Raw) -> None:
    assert warnings_for(specimens.function(**spec)) == ()


def test_values_that_look_like_secrets() -> None:
    some = specimens.function(
        env=[
            {"name": "DB_PASSWORD", "value": "hunter2"},
            {"name": "MODEL", "value": "small"},
            {"name": "API_TOKEN", "valueFrom": {"secretKeyRef": {"name": "a", "key": "b"}}},
            {"name": "AWS_SECRET_ACCESS_KEY", "value": ""},
        ],
        sidecars=[{"name": "side", "image": "a", "env": [{"name": "apiKey", "value": "hunter2"}]}],
    )
    (text,) = literal_secrets(some)
    assert "the values of DB_PASSWORD, apiKey of side in clear" in text
    assert "secretKeyRef" in text
    assert "hunter2" not in text
    fine = [("KEYS", "1"), ("MAX_TOKENS", "9"), ("TOKENIZERS_PARALLELISM", "true"), ("MONKEY", "a")]
    env = [{"name": name, "value": value} for name, value in fine]
    assert literal_secrets(specimens.function(env=env)) == ()
