"""The output folder: one job, its plan, its lock, and which parts are done. A part is there whole, or it is not there.

    _job.json         what the vectors depend on, and how much there is; the plan is complete where it is
    _plan.jsonl       a line for each part
    _errors/          of each part with items that failed, these
    _errors.jsonl     all of those, once the job has ended

What reads a folder of Parquet leaves out names that begin with an underscore.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from model.files import DRAFT, exclusive_lock, remove_file, write_atomically
from service.bulk.job import JobError, Planned
from service.bulk.sources import Part, may_pass

JOB, PLAN, LOCK, ERRORS = "_job.json", "_plan.jsonl", ".lock", "_errors.jsonl"
_NUMBER_DIGITS = 5
NumberedPart = tuple[int, Part]


class Totals(NamedTuple):
    """Of the whole job, or of what is done of it."""

    parts: int
    rows: int


class Folder:
    """`is_there` says of the number of a part whether all of it is there.

    With `retry_failed`, a part is not done either as long as an item of it has failed that may not fail again.
    """

    def __init__(self, path: Path, is_there: Callable[[int], bool], retry_failed: bool = False) -> None:
        self.path, self.is_there, self._retry_failed = path, is_there, retry_failed

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody else works in the folder meanwhile; the lock ends with the process, however that does.

        Raises JobError where somebody does, or where the folder holds something else.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        self._refuse_foreign()  # before anything is left in a folder of others
        held = JobError(f"another process works in {self.path}: wait until it has ended, or take another --output.")
        with exclusive_lock(self.path / LOCK, held):
            self._refuse_foreign()
            self._remove_drafts()
            yield

    def job(self) -> dict[str, Any] | None:
        """What `_job.json` holds; None where no job was planned to its end. Raises JobError for what is no job."""
        try:
            job = json.loads((self.path / JOB).read_bytes())
        except FileNotFoundError:
            return None
        except ValueError:
            job = None
        if not isinstance(job, dict) or not {*Planned._fields} <= job.keys():
            raise JobError(f"{self.path / JOB} is damaged, or not of this command: take another --output.")
        return job

    def write_plan(self, parts: Iterable[Part], advance: Callable[[int], object]) -> Totals:
        """Write the parts down, as they come."""
        count = rows = 0
        with write_atomically(self.path / PLAN) as draft, draft.open("wb") as lines:
            for part in parts:
                lines.write(orjson.dumps(part.to_json(), option=orjson.OPT_APPEND_NEWLINE))
                count, rows = count + 1, rows + part.rows
                advance(part.rows)
        return Totals(count, rows)

    def write_job(self, job: Mapping[str, Any]) -> None:
        """From now on, what is here is this job."""
        with write_atomically(self.path / JOB) as draft:
            draft.write_text(json.dumps(job, indent=2) + "\n", "utf-8")

    def is_done(self, number: int) -> bool:
        """Whether there is nothing to do for the part of this number."""
        return self.is_there(number) and not (self._retry_failed and self._may_pass(number))

    def pending(self) -> Iterator[NumberedPart]:
        """The parts that are not done, with their numbers, in the order of the plan."""
        return ((number, part) for number, part in self._parts() if not self.is_done(number))

    def pending_places(self) -> Iterator[tuple[int, int]]:
        """Of the same parts, the numbers, and where `part_at` finds them: a part may hold thousands of names."""
        offset = 0
        with (self.path / PLAN).open("rb") as lines:
            for number, line in enumerate(lines):
                if not self.is_done(number):
                    yield number, offset
                offset += len(line)

    def part_at(self, offset: int) -> Part:
        """The part that is described at this byte of the plan."""
        with (self.path / PLAN).open("rb") as lines:
            lines.seek(offset)
            return Part.from_json(orjson.loads(lines.readline()))

    def done(self, planned: Planned) -> Totals:
        """How much is done of what was planned. Raises JobError where the plan is not that of the job."""
        all_rows, done_rows = list[int](), list[int]()
        for number, part in self._parts():
            all_rows.append(part.rows)
            if self.is_done(number):
                done_rows.append(part.rows)
        if Totals(len(all_rows), sum(all_rows)) != (planned.parts, planned.rows):
            raise JobError(f"{self.path / PLAN} is damaged, or of another job: take another --output.")
        return Totals(len(done_rows), sum(done_rows))

    def write_errors(self, number: int, lines: Iterable[Mapping[str, Any]]) -> None:
        """The items of a part that failed; before the part itself is there."""
        file = self._errors_of(number)
        written = b"".join(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE) for line in lines)
        if written:
            file.parent.mkdir(exist_ok=True)
            with write_atomically(file, concurrent=True) as draft:
                draft.write_bytes(written)
        else:
            remove_file(file)  # of a run that ended before the part was there, or of items that have not failed again

    def join_errors(self, parts: int) -> int:
        """Put the errors of those of so many parts that are there into one file. Returns how many there are."""
        count = 0
        with write_atomically(self.path / ERRORS) as draft, draft.open("wb") as all_errors:
            for number in range(parts):
                file = self._errors_of(number)
                if file.exists() and self.is_there(number):
                    for line in file.open("rb"):
                        all_errors.write(line)
                        count += 1
        if not count:
            (self.path / ERRORS).unlink()
        return count

    def _parts(self) -> Iterator[NumberedPart]:
        try:
            with (self.path / PLAN).open("rb") as lines:
                for number, line in enumerate(lines):
                    yield number, Part.from_json(orjson.loads(line))
        except (FileNotFoundError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise JobError(f"{self.path / PLAN} is gone or damaged ({error}): take another --output.") from None

    def _may_pass(self, number: int) -> bool:
        try:
            with self._errors_of(number).open("rb") as lines:
                return any(may_pass(orjson.loads(line)["error"]) for line in lines)
        except FileNotFoundError:
            return False

    def _errors_of(self, number: int) -> Path:
        return self.path / "_errors" / f"part-{number:0{_NUMBER_DIGITS}}.jsonl"

    def _refuse_foreign(self) -> None:
        """Where there is no job yet, the folder is empty but for what one leaves that was killed while it planned."""
        if (self.path / JOB).exists():
            return
        ours = (LOCK, PLAN, f"{PLAN}{DRAFT}", f"{JOB}{DRAFT}")
        foreign = next((each.name for each in self.path.iterdir() if each.name not in ours), None)
        if foreign is not None:
            raise JobError(f"{self.path} holds {foreign}, and no job: take a folder that is new or empty as --output.")

    def _remove_drafts(self) -> None:
        """What killed runs were writing, here and where layouts write. Nobody writes now: the lock is ours."""
        for draft in chain(self.path.glob(f"*{DRAFT}"), self.path.glob(f"*/*{DRAFT}")):
            if draft.name.startswith((".", "_")) and draft.is_file():
                draft.unlink(missing_ok=True)
