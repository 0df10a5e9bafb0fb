"""Write configuration as YAML for people to read and edit."""

from __future__ import annotations


def as_yaml(value: object) -> str:
    """Return YAML in the order of the keys, with block scalars for text of several lines."""
    import yaml

    from fnbuild.function.yaml_scalars import resolve_scalar

    class Dumper(yaml.SafeDumper):
        def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002
            return True

    def text(dumper: yaml.SafeDumper, data: str) -> yaml.ScalarNode:
        style = "|" if "\n" in data else None
        # PyYAML writes y and n plain, although YAML 1.1 has them as booleans.
        if style is None and not isinstance(resolve_scalar(data), str):
            style = "'"
        return dumper.represent_scalar("tag:yaml.org,2002:str", data, style=style)

    Dumper.add_representer(str, text)
    dumped: str = yaml.dump(value, Dumper=Dumper, sort_keys=False, allow_unicode=True)
    return dumped.rstrip("\n")
