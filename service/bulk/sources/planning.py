"""Plans a job: its inputs in one pass, as parts."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain, groupby
from pathlib import Path

from model.data.files import IMAGE_SUFFIXES, JSON_LINES, PARQUET, TEXT_TABLES, stat_or_none, suffix_of
from model.data.skipped_samples import SkippedSamples
from model.data.walk import regular_files
from model.requirements import needs
from model.suggestions import did_you_mean_path
from service.bulk.sources.cells import OF_THE_MACHINE, normal
from service.bulk.sources.folders import cut_names
from service.bulk.sources.keys import KeyRegister
from service.bulk.sources.part import Form, Kind, Part, SourceError, SourceOptions, utf8_name
from service.bulk.sources.shards import plan_shard
from service.bulk.sources.tables import plan_table, recognize_table

FORMS: dict[str, Form] = {
    "tar": "shard",
    **dict.fromkeys(PARQUET, "parquet"),
    **dict.fromkeys(TEXT_TABLES, "delimited"),
    **dict.fromkeys(JSON_LINES, "json_lines"),
    "txt": "lines",
}
TEXT_SUFFIX = "txt"


def plan(inputs: Sequence[Path], options: SourceOptions, skipped: SkippedSamples | None = None) -> Iterator[Part]:
    """All parts, in order. What was guessed is noted in `skipped`, and files that are no items are counted there.

    Raises SourceError for an input that cannot be embedded, and where nothing is left.
    """
    yield from _Plan(inputs, options, SkippedSamples() if skipped is None else skipped).parts()


class _Plan:
    """What is known of the job while it is planned."""

    def __init__(self, inputs: Sequence[Path], options: SourceOptions, skipped: SkippedSamples) -> None:
        self._inputs, self._options, self._skipped = inputs, options, skipped
        self._kind: Kind | None = options.kind  # or that of the first input for all
        self._keys, self._names, self._noted = KeyRegister(), set[str](), set[str]()
        self._repeated, self._first_repeated = 0, ""

    def parts(self) -> Iterator[Part]:
        planned = False
        if self._options.root is not None and not self._options.root.is_dir():
            raise SourceError(f"--root: there is no folder {self._options.root}")
        for are_pictures, some in groupby(self._inputs, lambda path: _is_picture(path) and path.parent):
            inputs = list(some)
            found = self._pictures(inputs) if are_pictures else chain.from_iterable(map(self._input, inputs))
            for part in found:
                planned = True
                self._count_repeated(part)
                yield part
        if self._repeated:
            told = f"{self._repeated:,} keys came before: they are KEY#2, KEY#3 and so on"
            self._skipped.note(f"{told}; the first is {self._first_repeated}")
        if self._keys.missing:
            self._skipped.note(
                f"{self._keys.missing:,} rows have no key in their column of keys, but nothing, or what is neither a "
                "short text nor a whole number: they are called by the numbers of their rows"
            )
        if not planned:
            raise SourceError(self._nothing())

    def _input(self, given: Path) -> Iterator[Part]:
        path = normal(given)
        state = stat_or_none(path)
        if state is None:
            raise SourceError(f"there is no {given}{did_you_mean_path(str(given))}")
        if path.is_dir():
            yield from self._folder(path)
        elif suffix_of(path.name) not in FORMS:
            raise SourceError(
                f"{given} is nothing that is embedded: folders, pictures and files with one of these suffixes are: "
                f"{', '.join(f'.{suffix}' for suffix in FORMS)}. Decompress what is compressed; save sheets as CSV"
            )
        else:
            yield from self._file(path, path.name)

    def _pictures(self, files: list[Path]) -> Iterator[Part]:
        """Pictures that are inputs by themselves, all in one folder."""
        kind = self._fixed("image", str(files[0]))
        parent = files[0].parent
        prefix = "" if parent == Path() else f"{utf8_name(str(parent))}/"
        folder = Part("folder", kind, str(normal(parent)), 0, prefix)
        for part in cut_names(folder, [file.name for file in files], self._options):
            keys = (f"{prefix}{utf8_name(name)}" for name in part.names)
            repeated = ((row, number) for row, key in enumerate(keys) if (number := self._keys.number(key)))
            yield replace(part, repeated=tuple(repeated))

    def _folder(self, folder: Path) -> Iterator[Part]:
        """Pictures, or texts, a file each, and shards; where there are none of these, tables."""
        base = len(str(folder).rstrip("/")) + 1
        prefix = f"{self._unique(utf8_name(folder.name))}/" if len(self._inputs) > 1 else ""
        tables, found = list[Path](), False
        waiting: list[str] = []
        for file in regular_files(folder, self._skipped):
            suffix = suffix_of(file.name)
            if suffix in ((TEXT_SUFFIX,) if self._kind == "text" else IMAGE_SUFFIXES):
                waiting.append(str(file)[base:])
            elif FORMS.get(suffix) == "shard":
                found = True
                yield from self._file(file, str(file)[base:])
            elif suffix in FORMS and suffix != TEXT_SUFFIX:
                tables.append(file)
            else:
                self._skipped.pass_over(str(file), f"another suffix, .{suffix[:20]}" if suffix else "without a suffix")
            if len(waiting) == self._options.part_rows:
                found = True
                yield from self._names_of(folder, prefix, waiting)
                waiting = []
        found = found or bool(waiting)
        yield from self._names_of(folder, prefix, waiting)
        for table in tables:
            if found:
                self._skipped.pass_over(str(table), "a table beside pictures, texts or shards: to embed it, name it")
            else:
                yield from self._file(table, f"{prefix}{str(table)[base:]}")

    def _names_of(self, folder: Path, prefix: str, names: list[str]) -> Iterator[Part]:
        if names:
            kind = self._fixed("image", str(folder))
            yield from cut_names(Part("folder", kind, str(folder), 0, prefix), names, self._options)

    def _file(self, path: Path, name: str) -> Iterator[Part]:
        """A shard or a table. Of several, one that cannot be read is counted, and the others are planned."""
        form = FORMS[suffix_of(path.name)]
        try:
            state = path.stat()
            name = self._unique(utf8_name(name))
            yield from self._file_parts(
                Part(form, "image", str(path), 0, name, size=state.st_size, mtime_ns=state.st_mtime_ns)
            )
        except OSError as error:
            if error.errno in (*OF_THE_MACHINE, errno.ENOSPC):
                raise
            self._skipped.add(str(path), "damaged file", error)

    def _file_parts(self, file: Part) -> Iterator[Part]:
        if file.form == "shard":
            file = replace(file, kind=self._fixed("image", file.name))
            yield from plan_shard(file, self._options, self._keys, self._skipped)
        elif file.form == "parquet":
            with needs("parquet"):
                from service.bulk.sources.parquet import FAILURES, plan_parquet, recognize_parquet
            try:
                file, columns = recognize_parquet(file, self._options, self._kind)
                self._understood(file, columns)
                yield from plan_parquet(file, self._options, self._keys)
            except FAILURES as error:
                raise OSError(str(error)) from error
        else:
            file, columns = recognize_table(file, self._options, self._kind)
            self._understood(file, columns)
            yield from plan_table(file, self._options, self._keys, self._skipped)

    def _understood(self, table: Part, columns: str) -> None:
        """Note how a table is read, of many alike once."""
        self._kind = table.kind
        if columns not in self._noted:
            self._noted.add(columns)
            self._skipped.note(f"{table.name}: {columns}")

    def _fixed(self, kind: Kind, name: str) -> Kind:
        """The kind of the job: of its first input, if it is not said."""
        if self._kind is None:
            self._kind = kind
            self._skipped.note(f"{name}: {kind}s, as this is not said by --kind")
        return self._kind

    def _unique(self, name: str) -> str:
        """A name for keys that no other input has."""
        number, unique = 1, name
        while unique in self._names:
            number += 1
            unique = f"{name}({number})"
        if number > 1:
            self._skipped.note(f"several inputs are called {name}: in keys and sources one is {unique}")
        self._names.add(unique)
        return unique

    def _count_repeated(self, part: Part) -> None:
        if part.repeated and not self._repeated:
            self._first_repeated = f"in {part.name}, item {part.repeated[0][0]} from {part.first} on"
        self._repeated += len(part.repeated)

    def _nothing(self) -> str:
        where = ", ".join(map(str, self._inputs[:5]))
        told = "; ".join(self._skipped.remarks())
        damaged = f"; skipped {self._skipped.with_examples()}" if self._skipped.counts else ""
        hint = "" if self._options.kind == "text" else ". Texts, a file each, are embedded by --kind text"
        return f"nothing to embed in {where}{f': {told}' if told else ''}{damaged}{hint}"


def _is_picture(path: Path) -> bool:
    state = stat_or_none(path)
    return suffix_of(path.name) in IMAGE_SUFFIXES and state is not None and not path.is_dir()
