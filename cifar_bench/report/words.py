"""Numbers, lists and reasons, written alike in every table and sentence."""

from collections.abc import Callable, Iterable, Mapping

from cifar_bench.analysis import statistics


def with_interval(estimate: tuple[float, statistics.Interval], digits: int = 0) -> str:
    value, (low, high) = estimate
    return f"{value:,.{digits}f} ({low:,.{digits}f}\N{NO-BREAK SPACE}to\N{NO-BREAK SPACE}{high:,.{digits}f})"


def speedup(ratio: float, interval: statistics.Interval) -> str:
    """A ratio of latencies and its interval as a speedup: 2.00 (1.90 to 2.10) where the ratio is 0.5."""
    low, high = interval
    return with_interval((1 / ratio, (1 / high, 1 / low)), 1 if ratio < 0.1 else 2)


def times_faster(ratio: float) -> str:
    """A ratio of latencies in words: "1.81× faster" or "1.41× slower"."""
    times = f"{max(ratio, 1 / ratio):#.3g}".removesuffix(".")
    return f"{times}× {'faster' if ratio <= 1 else 'slower'}"


def not_run(rows: Iterable[Mapping], name: Callable[[Mapping], str]) -> list[str]:
    """Which of a record's rows did not run, and why, a sentence for each reason."""
    named: dict[str, list[str]] = {}
    for row in rows:
        if "reason" in row:
            named.setdefault(row["reason"], []).append(name(row))
    return [reason if reason.startswith(f"{names[0]} ") else f"{listed(names)}: {reason}" for reason, names in named.items()]


def listed(items: Iterable[str]) -> str:
    *most, last = items
    return f"{', '.join(most)} and {last}" if most else last
