"""The command line of the bench; see `python -m bench --help`."""

from __future__ import annotations

import argparse
import datetime
import json
import signal
import sys
import time
from pathlib import Path
from typing import Any

from . import catalog, environments, lifecycle, machine, markdown, report, rounds, workloads
from .catalog import Server
from .servers import StartError

DOCUMENT = catalog.ROOT / "docs" / "performance.md"
RESULTS = catalog.CACHE / "results.json"


def print_progress(text: str) -> None:
    """Print progress with the time."""
    print(f"{datetime.datetime.now():%H:%M:%S} {text}", file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    install = verbs.add_parser("install", help="make the peers' environments")
    install.add_argument("--environments", help="comma-separated; all by default")
    run = verbs.add_parser("run", help="measure")
    run.add_argument("--workloads", help="comma-separated; all by default")
    run.add_argument("--servers", help="comma-separated; all by default; the limit always runs")
    run.add_argument("--concurrency", default="1,2,8,32")
    run.add_argument("--seconds", type=int, default=3, help="length of one slice")
    run.add_argument("--rounds", type=int, default=5)
    run.add_argument("--starts", type=int, default=3, help="how often each server starts alone")
    run.add_argument("--lifecycle", default="echo,torch", help="workloads of the starts alone")
    run.add_argument(
        "--python",
        type=lambda value: Path(value).absolute(),
        help="an interpreter to use instead of the shared environment",
    )
    run.add_argument("-o", "--output", type=Path, default=RESULTS)
    written = verbs.add_parser("report", help="write the table into docs/performance.md")
    written.add_argument("results", type=Path, nargs="?", default=RESULTS)
    written.add_argument("--document", type=Path, default=DOCUMENT)
    return parser


def main(arguments: list[str]) -> int:
    """Run one verb; return the exit status."""
    options = _parser().parse_args(arguments)
    # SIGTERM ends the run as Ctrl-C does, so that everything that was started is stopped.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        if options.verb == "install":
            return _install(options.environments)
        if options.verb == "run":
            return _run(options, _command(arguments))
        report.write(json.loads(options.results.read_text()), options.document)
    except catalog.UnknownNameError as problem:
        print(problem, file=sys.stderr)
        return 2
    except (StartError, markdown.MarkerError) as problem:
        print(problem, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _install(names: str | None) -> int:
    available = catalog.load_catalog().environments
    wanted = names.split(",") if names else list(available)
    unknown = [name for name in wanted if name not in available]
    if unknown:
        raise catalog.UnknownNameError(f"no such environment: {', '.join(unknown)}")
    problems = [environments.install(available[name], print_progress) for name in wanted]
    return 1 if any(problems) else 0


def _command(arguments: list[str]) -> str:
    """Return the command without its output file."""
    kept = list(arguments)
    for name in ("-o", "--output"):
        if name in kept:
            place = kept.index(name)
            del kept[place : place + 2]
    return " ".join(["python -m bench", *kept])


def _run(options: argparse.Namespace, command: str) -> int:
    if options.python is not None:
        catalog.use_interpreter(options.python)
    chosen = catalog.choose_servers(options.servers)
    names = workloads.choose_workloads(options.workloads)
    missing: dict[str, dict[str, str]] = {}
    servers = _startable(chosen, missing)
    if not any(server.name == catalog.LIMIT for server in servers):
        print(f"nothing can be measured: {missing['*'][catalog.LIMIT]}", file=sys.stderr)
        return 1
    results: dict[str, Any] = {
        "command": command,
        "date": f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M} UTC",
        "facts": machine.collect_facts(catalog.load_catalog()),
        "servers": {server.name: server.title for server in chosen},
        "missing": missing,
        "slices": [],
        "lifecycle": [],
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    for name in names:
        _measure(name, servers, options, results)
        results["seconds"] = time.monotonic() - began
        # Written after every workload, so that an interrupted run keeps its results.
        options.output.write_text(json.dumps(results, indent=1))
    print_progress(f"{options.output} is written")
    return 0


def _measure(
    name: str, servers: list[Server], options: argparse.Namespace, results: dict[str, Any]
) -> None:
    """Measure one workload: every server alone, then all in turns."""
    workload = workloads.make_workload(name)
    for number in range(options.starts if name in options.lifecycle.split(",") else 0):
        for server in servers:
            adapted = workload.for_server(server)
            if adapted is None:
                continue
            record = lifecycle.measure_lifecycle(server, adapted)
            results["lifecycle"].append(record)
            print_progress(f"{name}: {server.name} alone, start {number + 1}: {_summary(record)}")
    levels = tuple(int(level) for level in options.concurrency.split(","))
    plan = rounds.RoundPlan(levels, options.seconds, options.rounds)
    slices, failed = rounds.measure_rounds(servers, workload, plan, print_progress)
    results["slices"] += slices
    if failed:
        results["missing"][name] = failed


def _startable(servers: list[Server], missing: dict[str, dict[str, str]]) -> list[Server]:
    """Return the servers that can be started here; record the others with the reason under `*`."""
    able = []
    for server in servers:
        reason = environments.server_problem(server, catalog.load_catalog())
        if reason is None:
            able.append(server)
        else:
            missing.setdefault("*", {})[server.name] = reason
            print_progress(f"{server.name} cannot be measured: {reason}")
    return able


def _summary(record: dict[str, Any]) -> str:
    if "problem" in record:
        return str(record["problem"])
    restart = record.get("restart")
    again = f", worker back after {restart:.2f} s" if restart else ""
    return f"cold start {record['cold_start']:.2f} s, {record['pss_loaded']:.0f} MiB loaded{again}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
