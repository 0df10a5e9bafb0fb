"""Why the cluster lets nobody make a function's pods: quotas, limits, policies, what is missing."""

from __future__ import annotations

import re

from fnbuild.platforms.kube.findings import Finding

_FORBIDDEN = re.compile(
    r'^(?:\(combined from similar events\): )?(?:Error creating: )?pods "[^"]*" is forbidden: '
)
_POD = re.compile(r'pods "([^"]*)"')
_LEAD = re.compile(r"^(?:\(combined from similar events\): )?(?:Error creating: )?")
_QUOTA = re.compile(
    r"exceeded quota: (\S+), requested: (.+?), used: (.+?), limited: (.+)$", re.DOTALL
)
_UNSPECIFIED = re.compile(r"failed quota: (\S+): must specify (.+)$")
_ACCOUNT = re.compile(r'serviceaccount "([^"]+)" not found')
_PRIORITY = re.compile(r"no PriorityClass with name (\S+) was found")
_POLICY = re.compile(r'violates PodSecurity "([^":]+)[^"]*": (.+)$', re.DOTALL)
_WEBHOOK = re.compile(r'admission webhook "([^"]+)" denied the request:? ?(.*)$', re.DOTALL)
_LIMIT = re.compile(r"(?:maximum|minimum) \S+ usage per (?:Container|Pod) is ")


def refused(message: str, namespace: str) -> Finding:
    """What the message of a failed creation of pods means. All of them are fatal."""
    text = _LEAD.sub("", _FORBIDDEN.sub("", message)).strip()
    return _meaning(text, namespace).become(fatal=True)


def pod_of(message: str, default: str) -> str:
    """The name of the pod, or its beginning, that was refused; `default` where it is not told."""
    found = _POD.search(message)
    return found[1] if found else default


def _meaning(text: str, namespace: str) -> Finding:  # noqa: PLR0911 (one per kind of refusal)
    if quota := _QUOTA.search(text):
        name, requested, used, limited = quota.groups()
        return Finding(
            f"the quota {name} of namespace {namespace} does not allow another pod"
            f" ({requested} more, {used} used, {limited} allowed)",
            "a rollout needs room for one more pod beside the old ones, unless"
            " spec.deploymentStrategy is `type: Recreate`;"
            f" `kubectl describe quota -n {namespace}` shows what is used",
        )
    if unspecified := _UNSPECIFIED.search(text):
        return Finding(
            f"the quota {unspecified[1]} of namespace {namespace} demands {unspecified[2]}",
            "set them in spec.resources",
        )
    if _LIMIT.search(text):
        return Finding(
            f"a limit range of namespace {namespace} refuses its resources: {text}",
            f"change spec.resources; `kubectl describe limitrange -n {namespace}` shows what fits",
        )
    if account := _ACCOUNT.search(text):
        return Finding(
            f"the service account {account[1]} does not exist",
            f"`kubectl create serviceaccount {account[1]} -n {namespace}`, or correct"
            " spec.serviceAccount",
        )
    if priority := _PRIORITY.search(text):
        return Finding(
            f"there is no priority class {priority[1]}",
            "`kubectl get priorityclasses` lists those there are; see spec.priorityClassName",
        )
    if policy := _POLICY.search(text):
        return Finding(
            f"the pod security level {policy[1]} of namespace {namespace} refuses it: {policy[2]}",
            "`--hardened` keeps to the level `restricted`",
        )
    if webhook := _WEBHOOK.search(text):
        return Finding(f"the cluster's policy {webhook[1]} refuses it: {webhook[2] or 'no reason'}")
    return Finding(f"the cluster refuses its pods: {text}")
