"""Counters and gauges of a server, as text that Prometheus reads (exposition format 0.0.4)."""

import threading
from collections import defaultdict
from collections.abc import Callable, Mapping

_BOUNDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Upper bounds of the histograms' buckets, in seconds."""
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
Labels = tuple[tuple[str, str], ...]


class Metrics:
    """Counters and gauges of a server, safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._help: dict[str, tuple[str, str]] = {}
        self._counters: dict[str, dict[Labels, float]] = defaultdict(dict)
        self._histograms: dict[str, dict[Labels, list[float]]] = defaultdict(dict)
        self._gauges: dict[str, Callable[[], float]] = {}

    def count(self, name: str, text: str, *, by: float = 1, **labels: str) -> None:
        """Add to a counter.

        Args:
            text: what the counter counts.
        """
        with self._lock:
            self._help.setdefault(name, (text, "counter"))
            key = tuple(sorted(labels.items()))
            values = self._counters[name]
            values[key] = values.get(key, 0) + by

    def observe(self, name: str, text: str, seconds: float, **labels: str) -> None:
        """Add a duration to a histogram."""
        with self._lock:
            self._help.setdefault(name, (text, "histogram"))
            key = tuple(sorted(labels.items()))
            values = self._histograms[name].setdefault(key, [0.0] * (len(_BOUNDS) + 2))
            for i, bound in enumerate(_BOUNDS):
                values[i] += seconds <= bound
            values[-2] += 1
            values[-1] += seconds

    def gauge(self, name: str, text: str, read: Callable[[], float]) -> None:
        """Have a value read whenever somebody looks."""
        self._help[name] = (text, "gauge")
        self._gauges[name] = read

    def values(self, name: str) -> Mapping[Labels, float]:
        """Return a counter's values by label."""
        with self._lock:
            return dict(self._counters[name])

    def render(self) -> str:
        """Return all values as text."""
        gauges = {name: read() for name, read in list(self._gauges.items())}
        with self._lock:
            lines = []
            for name in sorted(self._help):
                text, kind = self._help[name]
                lines += [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]
                if kind == "gauge":
                    lines.append(f"{name} {gauges[name]:g}")
                for key, value in sorted(self._counters.get(name, {}).items()):
                    lines.append(f"{name}{_labels(key)} {value:g}")
                for key, values in sorted(self._histograms.get(name, {}).items()):
                    for bound, value in zip((*_BOUNDS, "+Inf"), values, strict=False):
                        lines.append(
                            f"{name}_bucket{_labels((*key, ('le', f'{bound}')))} {value:g}"
                        )
                    lines.append(f"{name}_count{_labels(key)} {values[-2]:g}")
                    lines.append(f"{name}_sum{_labels(key)} {values[-1]:.6f}")
        return "\n".join(lines) + "\n"


def _labels(key: Labels) -> str:
    escaped = [
        (name, value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n"))
        for name, value in key
    ]
    return "{" + ",".join(f'{name}="{value}"' for name, value in escaped) + "}" if key else ""
