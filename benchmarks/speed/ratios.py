"""What is derived from readings, within one round each: the limit of the machine, shares of it, and ratios."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.speed.record import Record, Spread
from model.runtime.providers import ON_CPU


def limit_of(provider: str, cores: int, bare: float, decoding: float) -> float:
    """Pictures a second that a machine allows whose bare model does `bare` of them, and one core decodes `decoding`."""
    if provider in ON_CPU:  # both compete for the same cores
        return cores / (1 / decoding + cores / bare)
    return min(bare, decoding * cores)


def _limit(record: Record, model: str) -> Callable[[float, float], float]:
    def compute(bare: float, decoding: float) -> float:
        facts = record.facts[model]
        return limit_of(facts["provider"], facts["cores"], bare, decoding)

    return compute


def limit(record: Record, model: str, files: str) -> Spread | None:
    """Pictures a second that the machine allows."""
    return record.combined(_limit(record, model), (model, "640x480/A"), (model, f"{files}/C"))


def share(record: Record, model: str, files: str, rung: str) -> Spread | None:
    """A rung's throughput over the limit, for pictures; over the bare model, for texts."""
    if files == "texts":
        return ratio(record, (model, f"texts/{rung}"), (model, "texts/A"))
    of_limit = _limit(record, model)
    return record.combined(
        lambda rung, bare, decoding: rung / of_limit(bare, decoding),
        (model, f"{files}/{rung}"), (model, "640x480/A"), (model, f"{files}/C"),
    )  # fmt: skip


def ratio(record: Record, above: tuple[str, str], below: tuple[str, str]) -> Spread | None:
    """The ratio of two readings, each (model, name)."""
    return record.combined(lambda one, other: one / other, above, below)


def lone_overhead_ms(record: Record, model: str) -> Spread | None:
    """What a request that is alone takes beyond decoding and running one picture."""
    names = ("lone/http_ms", "lone/decode_ms", "lone/run_ms")
    return record.combined(lambda http, decode, run: http - decode - run, *((model, name) for name in names))


def format_number(value: float) -> str:
    """Three significant digits."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def format_spread(spread: Spread | None, write: Callable[[float], str] = format_number) -> str:
    """`median (smallest to largest)`, or `not measured`."""
    if spread is None:
        return "not measured"
    return f"{write(spread.median)} ({write(spread.low)} to {write(spread.high)})"
