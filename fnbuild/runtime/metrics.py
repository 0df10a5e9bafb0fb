"""Counters, gauges and histograms, and their text for Prometheus (exposition format 0.0.4).

Values belong to the thread that runs the processor's loop; nothing is locked. Children of a family
are looked up once, when a part of the processor is set up, so that counting costs an addition.
"""

import re
from bisect import bisect_left
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple, Union

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

# From a health check to the longest inference, in milliseconds.
MILLISECONDS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 30000, 60000)

_METRIC = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*\Z")
_LABEL = re.compile(r"(?!__)[a-zA-Z_][a-zA-Z0-9_]*\Z")

Number = Union[int, float]


class Counter:
    """A number that only grows."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: Number = 0

    def inc(self, amount: Number = 1) -> None:
        """Add; ValueError when `amount` is negative."""
        if amount < 0:
            raise ValueError("a counter cannot go down by %r" % (amount,))
        self.value += amount

    def samples(self) -> List[Tuple[str, str, Number]]:
        return [("", "", self.value)]


class Gauge:
    """A number that goes up and down, read from where it is kept; 0 until that is known."""

    __slots__ = ("_read",)

    def __init__(self) -> None:
        self._read: Optional[Callable[[], Number]] = None

    def read(self, function: Callable[[], Number]) -> None:
        """Ask `function` for the value whenever the metrics are asked for."""
        self._read = function

    def samples(self) -> List[Tuple[str, str, Number]]:
        return [("", "", 0 if self._read is None else self._read())]


class Histogram:
    """How often values fell below each of the given upper bounds, and their sum."""

    __slots__ = ("_bounds", "_counts", "sum")

    def __init__(self, bounds: Sequence[Number]) -> None:
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(self._bounds) + 1)
        self.sum: Number = 0

    def observe(self, value: Number) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self.sum += value

    def samples(self) -> List[Tuple[str, str, Number]]:
        rows: List[Tuple[str, str, Number]] = []
        total = 0
        for bound, count in zip(self._bounds, self._counts):  # noqa: B905 - zip has no strict in 3.6
            total += count
            rows.append(("_bucket", 'le="%s"' % _number(bound), total))
        total += self._counts[-1]
        rows.append(("_bucket", 'le="+Inf"', total))
        rows.append(("_sum", "", self.sum))
        rows.append(("_count", "", total))
        return rows


class Family:
    """All children of one metric: one for each combination of its labels' values."""

    def __init__(
        self, name: str, kind: str, text: str, labels: Sequence[str], make: Callable[[], Any]
    ) -> None:
        if not _METRIC.match(name):
            raise ValueError("%r cannot be the name of a metric" % name)
        for label in labels:
            _check_label(label, kind)
        self.name = name
        self.kind = kind
        self.text = text
        self.labels = tuple(labels)
        self._make = make
        self._children: Dict[Tuple[str, ...], Any] = {}

    def child(self, *values: object) -> Any:
        """The counter, gauge or histogram for these values, one for each label in its order."""
        if len(values) != len(self.labels):
            raise ValueError("%s has the labels %r, not %r" % (self.name, self.labels, values))
        key = tuple(str(value) for value in values)
        if key not in self._children:
            self._children[key] = self._make()
        return self._children[key]

    def lines(self, constant: Sequence[str]) -> List[str]:
        """The family's text; `constant` are labels, already written, that every sample has."""
        help_text = self.text.replace("\\", "\\\\").replace("\n", "\\n")
        rows = [
            "# HELP %s %s" % (self.name, help_text),
            "# TYPE %s %s" % (self.name, self.kind),
        ]
        for values, child in self._children.items():
            own = [_pair(label, values[i]) for i, label in enumerate(self.labels)]
            for suffix, extra, value in child.samples():
                pairs = [*constant, *own] + ([extra] if extra else [])
                braced = "{%s}" % ",".join(pairs) if pairs else ""
                rows.append("%s%s%s %s" % (self.name, suffix, braced, _number(value)))
        return rows


class Observed(Family):
    """Gauges whose labels and values are read when the metrics are asked for; none show nothing."""

    def __init__(
        self,
        name: str,
        text: str,
        labels: Sequence[str],
        read: Callable[[], Mapping[Tuple[str, ...], Number]],
    ) -> None:
        super().__init__(name, "gauge", text, labels, Gauge)
        self._read = read

    def lines(self, constant: Sequence[str]) -> List[str]:
        self._children.clear()
        for values, number in self._read().items():
            self.child(*values).read(lambda number=number: number)
        return super().lines(constant) if self._children else []


class Registry:
    """The metrics of one processor. `constant` labels are on every sample."""

    def __init__(self, constant: Optional[Mapping[str, str]] = None) -> None:
        self._constant = [_pair(_check_label(k, ""), v) for k, v in (constant or {}).items()]
        self._families: Dict[str, Family] = {}

    def counter(self, name: str, text: str, labels: Sequence[str] = ()) -> Family:
        """A family of counters. ValueError when the name is taken or cannot be one."""
        return self._add(Family(name, "counter", text, labels, Counter))

    def gauge(self, name: str, text: str, labels: Sequence[str] = ()) -> Family:
        """A family of gauges."""
        return self._add(Family(name, "gauge", text, labels, Gauge))

    def observed(
        self,
        name: str,
        text: str,
        labels: Sequence[str],
        read: Callable[[], Mapping[Tuple[str, ...], Number]],
    ) -> Family:
        """A family of gauges: `read` gives the values by those of the labels, at every scrape."""
        return self._add(Observed(name, text, labels, read))

    def histogram(
        self, name: str, text: str, labels: Sequence[str] = (), bounds: Sequence[Number] = ()
    ) -> Family:
        """A family of histograms with these upper bounds, in rising order."""
        edges = tuple(bounds) or MILLISECONDS
        if list(edges) != sorted(set(edges)):
            raise ValueError("the bounds of %s do not rise: %r" % (name, edges))
        return self._add(Family(name, "histogram", text, labels, lambda: Histogram(edges)))

    def text(self) -> str:
        """Every metric, for a reply with CONTENT_TYPE."""
        rows: List[str] = []
        for family in self._families.values():
            rows += family.lines(self._constant)
        return "\n".join(rows) + "\n" if rows else ""

    def _add(self, family: Family) -> Family:
        if family.name in self._families:
            raise ValueError("there is a metric %s already" % family.name)
        self._families[family.name] = family
        return family


def _check_label(label: str, kind: str) -> str:
    if not _LABEL.match(label) or (kind == "histogram" and label == "le"):
        raise ValueError("%r cannot be the name of a label" % label)
    return label


def _pair(label: str, value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return '%s="%s"' % (label, escaped)


def _number(value: Number) -> str:
    if value != value:  # noqa: PLR0124 - only NaN differs from itself
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "+Inf" if value > 0 else "-Inf"
    return repr(value) if isinstance(value, int) or value % 1 else repr(int(value))
