"""A function for git: variables that hold a secret name a key of a Secret instead of a value."""

from __future__ import annotations

from dataclasses import dataclass, field

from fnbuild.spec.secrets import own_key
from fnbuild.spec.sensitive import is_secret, marked
from fnbuild.spec.types import Raw


@dataclass(slots=True)
class References:
    """References to one Secret; `keys` are those that it needs, once something was replaced."""

    secret: str
    _values: dict[str, str] = field(default_factory=dict)
    _declared: frozenset[str] = frozenset()

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(self._values)

    def needs(self, namespace: str) -> tuple[str, ...]:
        """What somebody has to know who keeps the function in git: how to make the Secret."""
        if not self.keys:
            return ()
        like = "it looks like a secret" if len(self.keys) == 1 else "they look like secrets"
        literals = " ".join(f"--from-literal={key}=…" for key in self.keys)
        return (
            f"the manifests take {', '.join(self.keys)} from the Secret {self.secret}, for {like}:"
            f" `kubectl create secret generic {self.secret} -n {namespace} {literals}` makes that"
            f" (`--from-file={self.keys[0]}=FILE` keeps a value off the command line)",
        )

    def replaced(self, raw: Raw) -> Raw:
        """A function's plain JSON values without values of variables that look like secrets: its
        own, those of init containers and sidecars. Build arguments that do are left out, for the
        image is built.
        """
        spec = dict(raw.get("spec") or {})
        self._declared = marked((raw.get("metadata") or {}).get("annotations") or {})
        if spec.get("env"):
            spec["env"] = self._variables(spec["env"], "")
        for kind in ("initContainers", "sidecars"):
            if spec.get(kind):
                spec[kind] = [self._container(one) for one in spec[kind]]
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

    def _variables(self, some: list[Raw], container: str) -> list[Raw]:
        return [self._variable(one, container) for one in some]

    def _variable(self, one: Raw, container: str) -> Raw:
        name, value = str(one.get("name", "")), one.get("value")
        # The user who keeps the function in git also provides values that the cluster already has.
        if kept := own_key(one, self.secret.removeprefix("nuclio-")):
            return self._reference(one, container, kept)
        if not value or not (name in self._declared or is_secret(name, value)):
            return one
        return self._reference(one, container, str(value))

    def _reference(self, one: Raw, container: str, value: str) -> Raw:
        """Refer to a key of the Secret; a container with a different value gets its own key."""
        name = str(one.get("name", ""))
        same = not container or self._values.get(name, value) == value
        key = name if same else f"{container}.{name}"
        self._values[key] = value
        rest = {part: given for part, given in one.items() if part not in ("value", "valueFrom")}
        return {**rest, "valueFrom": {"secretKeyRef": {"name": self.secret, "key": key}}}
