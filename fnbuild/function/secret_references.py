"""References to a Kubernetes Secret in place of the values of a function's secrets.

There are two Secrets: the managed one, which fnbuild writes when it deploys to a cluster, and one
that the user creates, to which the manifests of `fnbuild deploy --dry-run -o yaml` refer.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from fnbuild.function.secret_detection import declared_secrets, is_secret
from fnbuild.function.types import Raw


def managed_secret_name(name: str) -> str:
    """Return the name of the Secret in which fnbuild keeps a function's secret values.

    Names of functions contain no dot, so the name cannot clash with that of another object.
    """
    return f"nuclio-{name}.env"


def managed_secret_key(variable: Raw, name: str) -> str:
    """Return the key of the function's managed Secret that a variable refers to, or ""."""
    reference = (variable.get("valueFrom") or {}).get("secretKeyRef") or {}
    if reference.get("name") != managed_secret_name(name):
        return ""
    return str(reference.get("key", ""))


@dataclass(slots=True)
class SecretReferences:
    """Replaces secret values by references to the user's Secret, for functions kept in git.

    `user_secret` is the name of that Secret. `keys` are the keys that it needs, after
    `replace_secrets`.
    """

    user_secret: str
    _values: dict[str, str] = field(default_factory=dict)
    _declared: frozenset[str] = frozenset()

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(self._values)

    def instructions(self, namespace: str) -> tuple[str, ...]:
        """Return the instructions to create the Secret, or nothing if it is not needed."""
        if not self.keys:
            return ()
        reason = "it looks like a secret" if len(self.keys) == 1 else "they look like secrets"
        literals = " ".join(f"--from-literal={key}=…" for key in self.keys)
        return (
            f"the manifests take {', '.join(self.keys)} from the Secret {self.user_secret}, because"
            f" {reason}:"
            f" `kubectl create secret generic {self.user_secret} -n {namespace} {literals}` creates"
            f" it (`--from-file={self.keys[0]}=FILE` keeps a value off the command line)",
        )

    def replace_secrets(self, raw: Raw) -> Raw:
        """Return a function's JSON object with references in place of secret variables.

        This includes init containers and sidecars. Build arguments that look like secrets are left
        out, because the image is already built.
        """
        spec = dict(raw.get("spec") or {})
        self._declared = declared_secrets((raw.get("metadata") or {}).get("annotations") or {})
        if spec.get("env"):
            spec["env"] = self._variables(spec["env"], "")
        for kind in ("initContainers", "sidecars"):
            if spec.get(kind):
                spec[kind] = [self._container(container) for container in spec[kind]]
        build = spec.get("build") or {}
        if build.get("args"):
            kept = {key: text for key, text in build["args"].items() if not is_secret(key, text)}
            spec["build"] = {**build, "args": kept}
        return {**raw, "spec": spec}

    def _container(self, container: Raw) -> Raw:
        if not container.get("env"):
            return container
        name = str(container.get("name", ""))
        return {**container, "env": self._variables(container["env"], name)}

    def _variables(self, variables: list[Raw], container: str) -> list[Raw]:
        return [self._variable(variable, container) for variable in variables]

    def _variable(self, variable: Raw, container: str) -> Raw:
        name, value = str(variable.get("name", "")), variable.get("value")
        # The user who keeps the function in git also provides values that the cluster already has.
        if kept := managed_secret_key(variable, self.user_secret.removeprefix("nuclio-")):
            return self._reference(variable, container, kept)
        if not value or not (name in self._declared or is_secret(name, value)):
            return variable
        return self._reference(variable, container, str(value))

    def _reference(self, variable: Raw, container: str, value_or_key: str) -> Raw:
        """Refer to a key of the Secret; a container with a different value gets its own key.

        `value_or_key` is the key in the managed Secret if the variable refers to that.
        """
        name = str(variable.get("name", ""))
        same = not container or self._values.get(name, value_or_key) == value_or_key
        key = name if same else f"{container}.{name}"
        self._values[key] = value_or_key
        rest = {
            part: content
            for part, content in variable.items()
            if part not in ("value", "valueFrom")
        }
        return {**rest, "valueFrom": {"secretKeyRef": {"name": self.user_secret, "key": key}}}
