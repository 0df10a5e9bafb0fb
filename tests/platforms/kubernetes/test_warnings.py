"""Warnings of a deploy to a cluster."""

from __future__ import annotations

import pytest

from fnbuild.function.types import Raw
from fnbuild.platforms.kubernetes.rollout.warnings import configuration_warnings
from tests.platforms.kubernetes import samples

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


STREAM = {"kind": "http", "attributes": {"streamingFlushPeriod": "100ms"}}
FLUSH = "triggers.web.attributes.streamingFlushPeriod"
CPU = {"requests": {"cpu": "1"}}


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        ({"nodeSelector": {"gpu": "true"}}, "nodeSelector gpu=true selects a node with a GPU"),
        ({"nodeSelector": {"accelerator": "t4"}}, "its container may not see the GPU"),
        ({"affinity": AFFINITY}, "`--resource-limit nvidia.com/gpu=1` requests one"),
        ({"volumes": [FOLDER]}, "not mounted because pods may run on any node: data (/srv/data)"),
        ({"devices": ["/dev/video0"]}, "without effect on the kube platform: devices"),
        ({"triggers": {"web": STREAM}}, f"the kube platform: {FLUSH}"),
        ({"scaleToZero": {"scaleResources": []}, "runtimeAttributes": {"a": 1}}, "scaleToZero, ru"),
        (
            {"minReplicas": 1, "maxReplicas": 2, "targetCPU": 60},
            "cpu 500m and memory 256Mi are requested",
        ),
        ({"replicas": 1, "minReplicas": 2}, "replicas 1 goes before minReplicas 2"),
        (
            {"replicas": 2, "minReplicas": 1, "maxReplicas": 3},
            "replicas 2 goes before minReplicas 1 and maxReplicas 3",
        ),
        ({"triggers": {"a": {"kind": "kafka"}}}, "these kinds do not run here: kafka"),
        (
            {"triggers": {"web": {"kind": "http", "attributes": {"port": 8070}}}},
            "port 8070 is not used: it is outside of the node ports that clusters usually have",
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
def test_a_setting_causes_one_warning(spec: Raw, text: str) -> None:
    warnings = configuration_warnings(samples.function(**spec))
    assert len(warnings) == 1
    assert text in warnings[0]


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"nodeSelector": {"gpu": "true"}, "resources": GPU},
        {"nodeSelector": {"zone": "east"}},
        {"nodeSelector": {"gpu": "false", "nvidia.com/gpu.present": "0"}},
        {"replicas": 2, "minReplicas": 2, "maxReplicas": 2},
        {"replicas": 0, "minReplicas": 1},
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
def test_valid_settings_cause_no_warning(spec: Raw) -> None:
    assert configuration_warnings(samples.function(**spec)) == ()
