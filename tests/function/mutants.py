"""Create invalid and hostile configuration files, check each, and print one JSON line for each.

Run as a program with the folder of the good files and a folder to write into: a separate process,
so that its memory can be measured and a crash shows.
"""

import json
import random
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from fnbuild.function.reader import check_function
from fnbuild.function.repair import repair_text

SEED = 20240613
COUNT = 500

SNIPPETS = (
    "<<<<<<< HEAD", "=======", ">>>>>>> theirs", "\t", "{{ value }}", "*missing", "&a [*a]",
    "<<: *x",
    "- - - -", "? ", ": : :", "!!binary aGk=", "!!python/object:os.system x", "%YAML 9.9", "---",
    "...",
    "'", '"', "@home", "`x`", "\u2028", "\u0085", "\U0001f600", "[", "{", "]", "}", "# ", "|",
    ">-", "0x",
    "1e999", ".nan", "-.inf", "9" * 400, "~", "key: " + "x" * 3000, "\\", "\x7f", "名前: 値",
)  # fmt: skip
VALUES = (
    "[]", "{}", "null", "true", "-1", "0750", "99999999999999999999", "3.10", '"2"',
    "2024-01-01", "yes",
    "[[[]]]", "{a: {b: [1, {c: d}]}}", "''", "|\n      text", "1e400", ".inf", "- x", "htpp",
)  # fmt: skip


def hostile() -> list[bytes]:
    """Return files that are written to break a reader."""
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)
    )
    spec = "metadata:\n  name: x\n  annotations:\n    type: detector\n    spec: "
    label = '{"nam": "a", "type": "foo", "attributes": [{}]}, '
    texts = [
        bomb, "[" * 200_000, "{" * 200_000, "{a: " * 100_000, "- " * 100_000, "? " * 100_000,
        "a:\n" + "".join(" " * n + "b:\n" for n in range(1, 400)),
        "- x\n" * 200_000, "a: 1\n" * 100_000, "k{}: 1\n".join(map(str, range(50_000))),
        "spec:\n" + "".join(f"  handlr{n}: 1\n" for n in range(20_000)),
        "spec:\n  env:\n" + "  - x\n" * 20_000,
        "metadata:\n  labels:\n" + "    a b: 'c d'\n" * 9_000,
        "metadata:\n  labels:\n" + "".join(f"    'a {n}': 'c d'\n" for n in range(20_000)),
        "a: '" + "x" * 900_000, 'a: "' + "\\u0041" * 150_000 + '"', "a: " + "x" * 1_000_000,
        "x" * 1_048_577, "&a " * 200_000, "a: " + "9" * 900_000, "#" * 1_000_000, " " * 1_000_000,
        "\t" * 1_000_000, "\n" * 1_000_000, "a:\n" + "\tb: 1\n" * 20_000, "\ta: 1\n" * 3000,
        f"{spec}'{'[' * 200_000}'", f"{spec}'[{label * 8000}1]'",
        f"{spec}|\n      [{label * 8000}1]",
        f"{spec}>\n      [{label * 100}1]", f"{spec}'[1, {'{},' * 40_000}]'",
        "<<<<<<< a\n" * 30_000, "a: &x {b: 1}\n" + "c: {<<: *x}\n" * 1000, "a: &a {<<: *a}",
        "metadata: {name: x}\n---\n" * 1000, "--- \n" * 10_000, "a: !!int x", "!!map [a]", "? a",
        "", "\ufeff", "---", "null", "0", "'x'", "[]", "\0", "\x1b[2J", "a: \x1b[31m",
        "\ufeff\ufeffa: 1",
    ]  # fmt: skip
    data = [text.encode() for text in texts]
    data += [
        b"\xff\xfea\0:\0",
        b"a: \xff\n",
        b"\x89PNG\r\n\x1a\n\0\0",
        b"PK\x03\x04\0\0",
        b"a: \xed\xa0\x80",
    ]
    return data


def mutate(text: str, chance: random.Random) -> bytes:
    """A text that differs from a good one in one to four places."""
    for _ in range(chance.randint(1, 4)):
        text = chance.choice(MUTATIONS)(text, chance)
    data = text.encode("utf-8", "surrogatepass")
    if chance.random() < 0.04:
        place = chance.randrange(len(data) + 1)
        data = data[:place] + bytes([chance.randrange(256)]) + data[place:]
    if chance.random() < 0.02:
        data = text.encode("utf-16")
    return data


def _lines(change: Callable[[list[str], int, random.Random], None]) -> Callable[..., str]:
    def mutation(text: str, chance: random.Random) -> str:
        lines = text.split("\n")
        change(lines, chance.randrange(len(lines)), chance)
        return "\n".join(lines)

    return mutation


def _drop(lines: list[str], row: int, chance: random.Random) -> None:
    del lines[row : row + chance.randint(1, 3)]


def _double(lines: list[str], row: int, chance: random.Random) -> None:
    lines.insert(row, lines[row])


def _move(lines: list[str], row: int, chance: random.Random) -> None:
    lines.insert(chance.randrange(len(lines)), lines.pop(row))


def _indent(lines: list[str], row: int, chance: random.Random) -> None:
    lines[row] = chance.choice(("\t", "  ", " ", "    \t")) + lines[row]


def _outdent(lines: list[str], row: int, chance: random.Random) -> None:
    lines[row] = lines[row][chance.randint(1, 3) :]


def _tab(lines: list[str], row: int, chance: random.Random) -> None:
    lines[row] = lines[row].replace("    ", "\t")


def _insert(lines: list[str], row: int, chance: random.Random) -> None:
    lead = lines[row][: len(lines[row]) - len(lines[row].lstrip())]
    lines.insert(row, chance.choice(("", lead)) + chance.choice(SNIPPETS))


def _value(lines: list[str], row: int, chance: random.Random) -> None:
    key, colon, _ = lines[row].partition(":")
    if colon:
        lines[row] = f"{key}: {chance.choice(VALUES)}"


def _letter(text: str, chance: random.Random) -> str:
    place = chance.randrange(len(text) + 1)
    new = chance.choice(("", "x", "'", '"', ":", ",", "\t", "}", "]", " ", "\n", "é", "-", "#"))
    return text[:place] + new + text[place + chance.randint(0, 2) :]


def _snippet(text: str, chance: random.Random) -> str:
    place = chance.randrange(len(text) + 1)
    return text[:place] + chance.choice(SNIPPETS) + text[place:]


def _end(text: str, chance: random.Random) -> str:
    return text[: chance.randrange(len(text) + 1)]


def _breaks(text: str, chance: random.Random) -> str:
    return text.replace("\n", chance.choice(("\r\n", "\r")))


MUTATIONS: tuple[Callable[[str, random.Random], str], ...] = (
    *map(_lines, (_drop, _double, _move, _indent, _outdent, _tab, _insert, _value, _value)),
    _letter, _letter, _snippet, _end, _breaks,
)  # fmt: skip


def judge(data: bytes, path: Path) -> dict[str, object]:
    """Return the findings about one file, the time and the memory used."""
    path.write_bytes(data)
    before = time.perf_counter()
    try:
        loaded, report = check_function(path)
        crash = ""
        faults = [
            finding.render()
            for finding in report.errors
            if finding.span is None or not finding.message or not _inside(finding.span.line, data)
        ]
        accepted = loaded is not None and not report.errors
        fault = faults[0] if faults else ""
        if not accepted and not report.errors:
            fault = "neither accepted nor refused"
        report.render()
    except Exception:  # noqa: BLE001 - a crash is a verdict
        crash, accepted, fault = traceback.format_exc(), False, ""
    seconds = time.perf_counter() - before
    return {"accepted": accepted, "crash": crash, "fault": fault, "seconds": seconds}


def _inside(line: int, data: bytes) -> bool:
    breaks = sum(
        data.count(mark) for mark in (b"\n", b"\r", b"\xc2\x85", b"\xe2\x80\xa8", b"\xe2\x80\xa9")
    )
    return 1 <= line <= breaks + 1


def mended(data: bytes) -> str:
    """A traceback, if mending this file raises."""
    try:
        repair_text(data.decode(), "x")
    except UnicodeDecodeError:
        return ""
    except Exception:  # noqa: BLE001 - a crash is a verdict
        return traceback.format_exc()
    return ""


def peak_megabytes() -> float:
    """Return the peak memory of this program; getrusage would include its parent's at the fork."""
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024


def main(good: Path, scratch: Path) -> None:
    chance = random.Random(SEED)
    texts = [path.read_text() for path in sorted(good.glob("*.yaml"))]
    files = hostile()
    files += [mutate(chance.choice(texts), chance) for _ in range(COUNT - len(files))]
    # A first file, so that the memory of the modules is not attributed to a hostile one.
    judge(texts[0].encode(), scratch / "function.yaml")
    for number, data in enumerate(files):
        verdict = judge(data, scratch / "function.yaml")
        if len(data) < 8_000:
            verdict["crash"] = verdict["crash"] or mended(data)
        verdict["number"] = number
        verdict["start"] = repr(data[:60])
        verdict["megabytes"] = peak_megabytes()
        print(json.dumps(verdict))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
