"""The metrics of TorchServe's handlers (`ts.metrics`), which are written to the function's log."""

import enum
from typing import Any, Callable, Dict, NamedTuple, Optional, Sequence


class MetricTypes(enum.Enum):
    """The types of metrics."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Dimension(NamedTuple):
    """A name and a value by which a metric is grouped."""

    name: str
    value: Any


class Metric(NamedTuple):
    """A metric from `Metrics.get_metric`."""

    metrics: "Metrics"
    name: str
    unit: str
    dimensions: Sequence[str]

    def add_or_update(self, value: Any, dimension_values: Sequence[Any] = (), *_ids: Any) -> None:
        pairs = [Dimension(*pair) for pair in zip(self.dimensions, dimension_values)]
        self.metrics.add_metric(self.name, value, self.unit, None, pairs)


class Metrics:
    """The metrics of a context; `write` takes a line of the log."""

    def __init__(self, model_name: str, write: Callable[[str], Any]) -> None:
        self.model_name = model_name
        self.request_ids: Optional[Dict[int, str]] = None
        self._write = write
        self._metrics: Dict[str, Metric] = {}

    def add_metric(
        self, name: str, value: Any, unit: str, idx: Any = None, dimensions: Any = None, *_: Any
    ) -> None:
        names = ["%s:%s" % (item.name, item.value) for item in dimensions or ()]
        names += ["ModelName:%s" % self.model_name, "Level:Model"]
        self._write("%s.%s:%s|#%s" % (name, unit or "unit", value, ",".join(names)))

    def add_counter(self, name: str, value: Any, idx: Any = None, *more: Any, **rest: Any) -> None:
        self.add_metric(name, value, "count", idx, *more, **rest)

    def add_percent(self, name: str, value: Any, idx: Any = None, *more: Any, **rest: Any) -> None:
        self.add_metric(name, value, "percent", idx, *more, **rest)

    def add_time(
        self, name: str, value: Any, idx: Any = None, unit: str = "ms", *more: Any, **rest: Any
    ) -> None:
        _check_unit(unit, ("ms", "s"))
        self.add_metric(name, value, unit, idx, *more, **rest)

    def add_size(
        self, name: str, value: Any, idx: Any = None, unit: str = "MB", *more: Any, **rest: Any
    ) -> None:
        _check_unit(unit, ("MB", "kB", "GB", "B"))
        self.add_metric(name, value, unit, idx, *more, **rest)

    def add_error(self, name: str, value: Any, dimensions: Any = None) -> None:
        self.add_metric(name, value, "", None, dimensions)

    def add_metric_to_cache(
        self, metric_name: str, unit: str, dimension_names: Sequence[str] = (), *_type: Any
    ) -> Metric:
        self._metrics[metric_name] = Metric(self, metric_name, unit, dimension_names)
        return self._metrics[metric_name]

    def get_metric(self, metric_name: str, *_type: Any) -> Metric:
        return self._metrics[metric_name]


def _check_unit(unit: str, units: Sequence[str]) -> None:
    if unit not in units:
        raise ValueError("the unit is one of %s, not %r" % (", ".join(units), unit))


class MetricsStore(Metrics):
    """The old name of the metrics, in signatures of handlers."""
