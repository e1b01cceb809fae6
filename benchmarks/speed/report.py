"""python -m benchmarks.speed.report FILE: RESULTS.md and its plot, from the JSON that a run wrote."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated

from model.requirements import needs

with needs("dev"):
    import typer

    from benchmarks.speed import ratios, scaling
    from benchmarks.speed.plot import plot
    from benchmarks.speed.ratios import format_number, format_spread
    from benchmarks.speed.record import Record, Spread
    from benchmarks.speed.targets import Target, targets
    from model.bundle import bundled
    from model.manifest import MANIFEST

PAGE = Path(__file__).parents[1] / "RESULTS.md"
RUNGS = {
    "A": "A bare `session.run`",
    "C": "C decode and resize, one core",
    "D": "D the pipeline, in process",
    "E": "E HTTP, the file as body",
    "F": "F HTTP, base64 in JSON",
}
TEXT_RUNGS = {"A": RUNGS["A"], "D": RUNGS["D"], "F": "F HTTP, JSON"}
READINGS = {
    **{
        f"cache/{kind}/{server}{unit}": f"{told_server}, one {kind} again and again, {told_unit}"
        for kind in ("picture", "text")
        for server, told_server in (("hit", "cache hits"), ("empty", "an empty FastAPI route"))
        for unit, told_unit in (("", "requests/s"), ("/core_ms", "core-ms a request"))
    },
    "camera/ours_ms": "12 MP JPEG to pixels, ms",
    "camera/plain_ms": "the same by plain Pillow, ms",
    "start/s": "start of the process to ready, s",
    "memory/bare_mib": "a process with the two bare sessions, MiB",
    "memory/service_mib": "the service while it serves, MiB",
}
app = typer.Typer(add_completion=False, rich_markup_mode="markdown")
PROJECTED = (2, 16, 64)  # processes, each with cores of its own
NVIDIA = ("CUDAExecutionProvider", "TensorrtExecutionProvider")


def page(record: Record, picture: str | None = None) -> str:
    """All that was found, as Markdown, with a link to the plot."""
    lines = [f"# Speed, {record.started}, size {record.size}", "", *_machine(record), *_replaced(record), ""]
    lines += [f"![pictures a second, and shares of the limit]({picture})", ""] if picture else []
    lines += _targets(record)
    for model in record.models():
        if record.values(model, "640x480/A"):
            lines += _ladder(record, model)
        lines += _loops(record, model)
    lines += [*_beside(record), *_ceiling(record), *_other_readings(record)]
    if not any(facts.get("provider") in NVIDIA for facts in record.facts.values()):
        lines += [
            "## GPU",
            "",
            "Not measured: this machine has none. The same ladder runs there: `--provider cuda`.",
            "",
        ]
    if record.failed:
        lines += ["## What failed", "", *(f"- {phase}: {why}" for phase, why in record.failed.items()), ""]
    return "\n".join(lines)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A table in Markdown, and an empty line."""
    return [_row(head), _row(["---"] * len(head)), *map(_row, rows), ""]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _machine(record: Record) -> list[str]:
    facts = record.facts.get("", {})
    lines = [", ".join(f"{name} {value}" for name, value in record.machine.items()) + "."]
    if "generator" in facts:
        lines.append(f"The load generator: {facts['generator']}.")
    kinds = ("raw", "json", "text")
    costs = {kind: record.spread("", f"generator/{kind}/core_ms") for kind in kinds}
    costs_text = ", ".join(f"{kind} {format_number(cost.median)}" for kind, cost in costs.items() if cost)
    if costs_text:
        lines.append(f"What a request costs it, in core-ms, against a server that only parses it: {costs_text}.")
    return [*lines, "Medians over the rounds, smallest and largest in brackets; ratios are of one round each."]


def _targets(record: Record) -> list[str]:
    measured = [each for each in targets(record) if each.measured or record.size == "full"]
    if not measured:
        return []
    rows = [[each.what, _bound(each), _measured(each), each.met] for each in measured]
    return ["## Targets", "", *table(["what", "wanted", "measured", ""], rows)]


def _bound(target: Target) -> str:
    return f"{'≤' if target.at_most else '≥'} {target.bound:g}{target.unit}"


def _measured(target: Target) -> str:
    digits = ".4f" if target.unit == "" else ".3g"
    return format_spread(target.measured, lambda value: f"{value:{digits}}")


def _ladder(record: Record, model: str) -> list[str]:
    facts = record.facts[model]
    lines = [f"## {model}", "", f"{facts['provider']}, {facts['cores']} cores. Best bare settings:"]
    lines += [f"pictures in {facts['bare_image']}; texts in {facts['bare_text']}.", ""]
    lines += table(["", "items/s", "of the limit", "core-ms an item", "generator, core-ms"], _rungs(record, model))
    overhead = ratios.lone_overhead_ms(record, model)
    if overhead:
        parts = [format_spread(record.spread(model, f"lone/{part}_ms")) for part in ("http", "decode", "run")]
        lines += [f"A lone request takes {parts[0]} ms: {parts[1]} to decode, {parts[2]} to run,"]
        lines += [f"{format_spread(overhead, lambda ms: f'{ms:+.2f}')} ms on top.", ""]
    return lines


def _rungs(record: Record, model: str) -> list[list[str]]:
    rows: list[list[str]] = []
    for files in ("640x480", "mixed"):
        rows_of_set = [_rung(record, model, files, rung, f"{files}: {name}") for rung, name in RUNGS.items()]
        limit = ratios.limit(record, model, files)
        if limit:
            rows_of_set.append([f"{files}: the limit", format_spread(limit), "1", "", ""])
        rows += [row for row in rows_of_set if row]
    texts = [_rung(record, model, "texts", rung, f"texts: {name}") for rung, name in TEXT_RUNGS.items()]
    return [*rows, *(row for row in texts if row)]


def _rung(record: Record, model: str, files: str, rung: str, name: str) -> list[str]:
    measured = record.spread(model, f"{files}/{rung}")
    if measured is None:
        return []
    share = (
        ""
        if rung in ("A", "C")
        else format_spread(ratios.share(record, model, files, rung), lambda part: f"{part:.3f}")
    )
    core_ms = record.spread(model, f"{files}/{rung}/core_ms")
    generator_ms = record.spread(model, f"{files}/{rung}/generator_ms")
    costs = [format_number(cost.median) if cost else "" for cost in (core_ms, generator_ms)]
    return [name, format_spread(measured), share, *costs]


def _loops(record: Record, model: str) -> list[str]:
    limit = record.spread(model, "loops/limit")
    if limit is None:
        return []
    rows: list[list[str]] = []
    for kind, unit in (("closed", "clients"), ("open", "% of the limit")):
        names = dict.fromkeys(
            sample.name.split("/")[1] for sample in record.samples if sample.name.startswith(f"{kind}/")
        )
        for load in names:
            values = [record.spread(model, f"{kind}/{load}/{part}") for part in ("rate", "p50", "p95", "p99")]
            if all(values):
                rows.append(
                    [f"{kind} loop, {load} {unit}", *(format_number(value.median) for value in values if value)]
                )
    head = ["pictures of 640x480, the file as body", "pictures/s", "p50 ms", "p95 ms", "p99 ms"]
    return [f"### {model}: how long answers take; the limit was {format_number(limit.median)}", "", *table(head, rows)]


def _replaced(record: Record) -> list[str]:
    """That the bundled model was another one when these readings were taken."""
    manifest = json.loads((bundled() / MANIFEST).read_text("utf-8"))
    created = datetime.fromisoformat(manifest["created"]).strftime("%Y-%m-%d %H:%M")
    named = any(name.startswith(manifest["id"]) for name in record.models())
    if not named or record.started >= created:
        return []
    return [f"{manifest['id']} is here the predecessor of the one that is bundled now, which was made {created}."]


def _beside(record: Record) -> list[str]:
    peers = {name: facts for name, facts in record.facts.items() if "versions" in facts}
    rows = []
    for name in dict.fromkeys([*record.models(), *peers]):
        readings = [record.spread(name, f"beside/{what}") for what in ("pictures/32", "pictures/8", "texts/32")]
        facts = peers.get(name, {})
        if any(readings) or facts:
            remark = facts.get("missing") or facts.get("versions", "ours")
            rows.append([name, *map(format_spread, readings), remark])
    if not rows:
        return []
    head = ["base64 in JSON", "pictures/s, 32 clients", "pictures/s, 8 clients", "texts/s, 32 clients", ""]
    return ["## Beside others", "", *table(head, rows)]


def _ceiling(record: Record) -> list[str]:
    names = [sample.name.split("/")[1:] for sample in record.samples if sample.name.startswith("ceiling/")]
    costs = ("items_s", "loop_ms", "core_ms", "lock_ms", "lock_loop_ms", "lock_decode_ms", "lock_tower_ms")
    rows = []
    for kind in dict.fromkeys(kind for kind, *_ in names):
        spreads = [record.spread("", f"ceiling/{kind}/{cost}") for cost in costs]
        loop_ms, lock_ms = spreads[1], spreads[3]
        if loop_ms and lock_ms:
            ends_at = 1e3 / max(loop_ms.median, lock_ms.median)
            medians = [format_number(each.median) if each else "" for each in spreads]
            rows.append([kind, *medians, format_number(ends_at)])
    if not rows:
        return []
    head = [
        "",
        "items/s here",
        "loop's thread",
        "all threads",
        "lock held",
        "by the loop",
        "decoding",
        "towers",
        "ends at",
    ]
    return [
        "## Where one process ends",
        "",
        "Before an engine that computes nothing; core-ms, and ms of the lock, an item. The last column is the items a "
        "second at which either the loop's thread or the lock has no time left.",
        "",
        *table(head, rows),
        *_scaling(record),
    ]


def _scaling(record: Record) -> list[str]:
    rows = []
    for kind in dict.fromkeys(sample.name.split("/")[1] for sample in record.samples if sample.name[:8] == "scaling/"):
        rounds = scaling.rounds(record, kind)
        told = [format_spread(Spread.of([each[number] for each in rounds])) for number in sorted(rounds[0])]
        law = scaling.fit(scaling.medians(rounds))
        ends = [format_spread(scaling.projected(rounds, number)) for number in PROJECTED]
        rows.append([kind, "; ".join(told), f"{law.alpha:.3g}, {law.beta:.3g}", *ends])
    if not rows:
        return []
    head = ["", "core-ms an item, of 1, 2, ... processes", "alpha, beta", *(f"C({number})" for number in PROJECTED)]
    return [
        "Of several processes, by the universal scalability law (`benchmarks/speed/scaling.py`):",
        "",
        *table(head, rows),
    ]


def _other_readings(record: Record) -> list[str]:
    """Readings that stand alone, in the order in which they were taken."""
    rows = []
    for model, name in dict.fromkeys((sample.model, sample.name) for sample in record.samples):
        if (words := READINGS.get(name)) is not None:
            rows.append([f"{model}: {words}" if model else words, format_spread(record.spread(model, name))])
    return ["## What else was read", "", *table(["", ""], rows)] if rows else []


@app.command()
def write(
    file: Annotated[Path, typer.Argument(help="results/speed-DATE.json, which a run wrote.")],
    page_file: Annotated[Path, typer.Option("--page", help="Where to write; the plot goes beside it.")] = PAGE,
) -> None:
    """Write RESULTS.md and RESULTS.svg from the readings of a run.

    Example:

        python -m benchmarks.speed.report benchmarks/results/speed-2026-11-28-0253.json
    """
    record = Record.read(file)
    picture = page_file.with_suffix(".svg")
    picture.write_text(plot(record), "utf-8")
    page_file.write_text(page(record, picture.name), "utf-8")


if __name__ == "__main__":
    app(prog_name="python -m benchmarks.speed.report")
