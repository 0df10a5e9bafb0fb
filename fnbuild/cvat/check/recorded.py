"""Check the recorded replies of a function, without a request to it."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from fnbuild.cvat.check.examination import CheckResult
from fnbuild.cvat.check.exchanges import check_exchange
from fnbuild.cvat.check.findings import FindingCollector
from fnbuild.cvat.check.probe import ExaminedCase, Subject, TargetReply
from fnbuild.runtime.recording import files


def examine_recording(subject: Subject, folder: Path) -> CheckResult:
    """Apply the rules to the recorded replies to requests of CVAT."""
    collector = FindingCollector()
    cases: list[ExaminedCase] = []
    for entry in files.read_entries(str(folder)):
        name = f"{datetime.fromtimestamp(entry.header['time']).astimezone():%Y-%m-%d %H:%M:%S}"
        reply = TargetReply(entry.header["status"], entry.reply)
        if check_exchange(subject, entry.request, reply, collector, name):
            cases.append(ExaminedCase(name, entry.header["seconds"]))
    return CheckResult(subject.function.metadata.name, subject.kind, cases, collector.findings)
