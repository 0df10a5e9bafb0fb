"""The results as Markdown, between two markers of a document."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .catalog import LIMIT, OURS, TORCHSERVE
from .goals import (
    Goal,
    evaluate_goals,
    evaluate_protocol_goals,
    evaluate_torchserve_goals,
)
from .markdown import insert, table
from .results import Measurement, Results
from .workloads import PROTOCOLS, TITLES

BEGIN = "<!-- bench: begin -->"
END = "<!-- bench: end -->"
PROTOCOLS_BEGIN = "<!-- protocols: begin -->"
PROTOCOLS_END = "<!-- protocols: end -->"
TORCHSERVE_BEGIN = "<!-- torchserve: begin -->"
TORCHSERVE_END = "<!-- torchserve: end -->"

# Programs named in the header, if an environment has them.
_NAMED = ("torch", "numpy", "pillow", "opencv-python-headless", "nuclio-sdk", "flask", "gunicorn",
          "fastapi", "uvicorn", "starlette", "granian", "kserve", "torchserve", "litserve",
          "bentoml")  # fmt: skip
_MAIN_LEVEL = 8
# Load per core at the start up to which the machine counts as idle.
_QUIET = 0.25


def write(results: dict[str, Any], document: Path) -> None:
    """Put the tables between the document's markers.

    Those of the protocols, and those with TorchServe as the only peer, have their own.
    """
    classic, protocols = _part(results, False), _part(results, True)
    if protocols["slices"]:
        goals = evaluate_protocol_goals(Results(protocols))
        insert(render(protocols, goals), document, PROTOCOLS_BEGIN, PROTOCOLS_END)
    if classic["slices"] and set(classic["servers"]) == {LIMIT, OURS, TORCHSERVE}:
        goals = evaluate_torchserve_goals(Results(classic))
        insert(render(classic, goals), document, TORCHSERVE_BEGIN, TORCHSERVE_END)
    elif classic["slices"] or not protocols["slices"]:
        insert(render(classic), document, BEGIN, END)


def _part(results: dict[str, Any], protocols: bool) -> dict[str, Any]:
    """Return the results of the inference protocols' workloads, or those of the others."""
    measured = {
        part: {
            item["server"] for item in results["slices"] if (item["workload"] in PROTOCOLS) is part
        }
        for part in (False, True)
    }
    others = measured[not protocols] - measured[protocols]
    part = {
        key: [item for item in results[key] if (item["workload"] in PROTOCOLS) is protocols]
        for key in ("slices", "lifecycle")
    }
    servers = {name: title for name, title in results["servers"].items() if name not in others}
    missing = {
        name: servers
        for name, servers in results["missing"].items()
        if name == "*" or (name in PROTOCOLS) is protocols
    }
    return {**results, **part, "servers": servers, "missing": missing}


def render(results: dict[str, Any], goals: list[Goal] | None = None) -> str:
    """Return all tables; `goals` replaces the goals of most workloads."""
    figures = Results(results)
    goals = evaluate_goals(figures) if goals is None else goals
    parts = [_head(results), _summary(figures), _goals(goals)]
    parts += [_workload(figures, name) for name in figures.workloads]
    parts += [_alone(figures, name) for name in figures.starts()]
    parts.append(_missing(results))
    return "\n".join(part for part in parts if part)


def _head(results: dict[str, Any]) -> str:
    facts = results["facts"]
    releases: dict[str, str] = {}
    for versions in facts["versions"].values():
        releases = {**versions, **releases}
    programs = ", ".join(f"{name} {releases[name]}" for name in _NAMED if name in releases)
    return (
        f"Measured on {results['date']} at commit {facts['commit']} in "
        f"{results['seconds'] / 60:.0f} minutes by\n\n"
        f"```console\n$ {results['command']}\n```\n\n"
        f"{facts['cpu']}, {facts['cores']} cores, {facts['memory_gib']} GiB, Linux "
        f"{facts['kernel']}, {facts['libc']}, Python {facts['python']} "
        f"({facts['python_loop_ns']:g} ns for a turn of a loop); "
        f"{facts['workers']} workers each; load generator on the same cores: "
        f"{facts['generator']}; load average at the start {facts['load_at_start']:.1f}, "
        f"{_load(results)} while measuring; {_lengths(results)}.\n"
        f"{programs}.\n{_warning(facts)}"
    )


def _warning(facts: dict[str, Any]) -> str:
    if facts["load_at_start"] <= _QUIET * facts["cores"]:
        return ""
    return (
        "\n**The machine was busy with other work**, so that these figures are rough: a share of "
        "the limit above 1 is noise.\n"
    )


def _load(results: dict[str, Any]) -> str:
    loads = [record["load"] for record in results["slices"]] or [0.0]
    return f"{min(loads):.1f} to {max(loads):.1f}"


def _lengths(results: dict[str, Any]) -> str:
    rounds = len({record["round"] for record in results["slices"]})
    lengths = sorted({record["seconds"] for record in results["slices"]})
    return f"{rounds} rounds, slices of {' and '.join(map(str, lengths))} s"


def _summary(figures: Results) -> str:
    if not figures.levels:
        return ""
    level = _main_level(figures)
    rows = []
    for server, title in figures.servers.items():
        cells = [_share(figures.figure(name, level, server), server) for name in figures.workloads]
        rows.append([title, *cells])
    heading = f"### Requests per second at concurrency {level}, and their share of the limit\n"
    return f"{heading}\n{table(['server', *figures.workloads], rows)}"


def _goals(verdicts: list[Goal]) -> str:
    rows = []
    for verdict in verdicts:
        sign = "≤" if verdict.at_most else "≥"
        value = "not measured" if verdict.value is None else f"{verdict.value:.2f}"
        outcome = {True: "yes", False: "**no**", None: ""}[verdict.met]
        rows.append([verdict.text, f"{sign} {verdict.wanted:g}", value, outcome])
    return f"### What fnbuild is held to\n\n{table(['', 'wanted', 'measured', 'met'], rows)}"


def _workload(figures: Results, name: str) -> str:
    heads = ["server"]
    for level in figures.levels:
        heads.append(f"c {level}")
    heads += [f"p50 / p99 ms, c {level}" for level in figures.levels] + [
        f"CPU ms a request, c {_main_level(figures)}"
    ]
    rows = []
    for server, title in figures.servers.items():
        measurements = [figures.figure(name, level, server) for level in figures.levels]
        if any(measurements):
            rates = [_share(figure, server) for figure in measurements]
            times = [_times(figure) for figure in measurements]
            rows.append(
                [title, *rates, *times, _cpu(figures.figure(name, _main_level(figures), server))]
            )
    return f"### {name}: {TITLES.get(name, name)}\n\n{table(heads, rows)}"


def _alone(figures: Results, name: str) -> str:
    heads = ["server", "cold start s", "worker back after s", "PSS idle MiB", "PSS loaded MiB"]
    keys = {"cold_start": 2, "restart": 2, "pss_idle": 0, "pss_loaded": 0, "idle_cpu": 3}
    rows = []
    for server, title in figures.servers.items():
        cells = [_figure(figures.alone(name, server, key), keys[key]) for key in keys]
        if figures.gone(name, server):
            cells[1] = "not back"
        if any(cell != "-" for cell in cells):
            rows.append([title, *cells])
    heads.append("CPU while idle")
    return f"### {name}: each server alone\n\n{table(heads, rows)}"


def _figure(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _missing(results: dict[str, Any]) -> str:
    lines = [
        f"- {server} ({'all workloads' if workload == '*' else workload}): {reason}"
        for workload, servers in results["missing"].items()
        for server, reason in servers.items()
    ]
    problems = {
        f"- {record['server']} ({record['workload']}, alone): {record['problem']}"
        for record in results["lifecycle"]
        if "problem" in record
    }
    lines += sorted(problems)
    return "\n".join(["### Not measured", "", *lines, ""]) if lines else ""


def _share(figure: Measurement | None, server: str) -> str:
    if figure is None:
        return "-"
    if not figure.rate:
        return f"void: {figure.void[0]}"
    rate = f"{figure.rate:,.0f}"
    if server == LIMIT or figure.ratio is None:
        return rate
    share = f"{figure.ratio:.2f}" if figure.ratio >= 0.1 else f"{figure.ratio:.3f}"
    return f"{rate} ({share})"


def _times(figure: Measurement | None) -> str:
    return f"{figure.p50:.3g} / {figure.p99:.3g}" if figure and figure.rate else "-"


def _cpu(figure: Measurement | None) -> str:
    return f"{figure.cpu_ms:.3g}" if figure and figure.cpu_ms is not None else "-"


def _main_level(figures: Results) -> int:
    return _MAIN_LEVEL if _MAIN_LEVEL in figures.levels else figures.levels[-1]
