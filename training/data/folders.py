"""A folder of pictures: captions beside them, a metadata file, or a folder for each label."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from model.suggestions import did_you_mean_path
from training.config import Source
from training.data.annotation import Annotator
from training.data.entry import Entry, Place, Told
from training.data.files import (
    MAX_TEXT_BYTES,
    OPAQUE_SUFFIXES,
    PICTURE_SUFFIXES,
    TEXT_SUFFIXES,
    is_system_name,
    read_bounded,
    regular_files,
    suffix_of,
)
from training.data.shards import ShardError
from training.data.tables import scan_tables
from training.data.troubles import Troubles

METADATA = ("metadata.csv", "metadata.tsv", "metadata.jsonl", "metadata.parquet")
NAMED = 8  # suffixes in a message


def scan_folder(folder: Path, source: Source, troubles: Troubles) -> Iterator[Entry]:
    """All pictures of which something is said, in the order of their paths.

    By `metadata.csv`, `.tsv`, `.jsonl` or `.parquet` where there is one; else by NAME.json, NAME.txt (a caption a line)
    or NAME.cls beside NAME.jpg; where there is no such file, the outermost folder in `folder` is the label.
    Raises ShardError if it is no folder, or nothing is said of any picture in it.
    """
    if not folder.is_dir():
        raise ShardError(f"{folder} is not a folder{did_you_mean_path(folder)}")
    files = list(regular_files(folder, troubles))
    pictures = [file for file in files if suffix_of(file.name) in PICTURE_SUFFIXES]
    tables = [file for file in files if file.name in METADATA]
    if tables:
        used: set[Path] = set()
        for entry in scan_tables(tables, source, troubles):
            used.add(entry.place.file.resolve())
            yield entry
        for picture in pictures:
            if picture.resolve() not in used:
                troubles.pass_over(
                    str(picture), f"a picture that {', '.join(sorted({t.name for t in tables}))} leaves out"
                )
        return
    if not pictures:
        raise ShardError(f"{folder} holds no picture files, {found_suffixes(files)}")
    texts = _texts_by_picture(files)
    captioned = [picture for picture in pictures if _beside(picture, texts)]
    if captioned and len(captioned) < len(pictures):
        troubles.note(
            f"{folder}: {len(captioned):,} of {len(pictures):,} pictures have a text beside them, such as "
            f"{captioned[0].name}; the names of folders are not used as labels"
        )
    _pass_over_others(files, captioned, texts, troubles)
    if not captioned:
        labels = {picture.relative_to(folder).parts[0] for picture in pictures}
        for inner in sorted(folder.iterdir()):
            if inner.is_dir() and inner.name not in labels and not is_system_name(inner.name):
                troubles.pass_over(str(inner), "a class folder without pictures")
    annotator = Annotator(troubles, source.encoding)
    for picture in pictures:
        inside = picture.relative_to(folder)
        key = f"{folder.name}/{inside.as_posix()}"
        if captioned:
            told = annotator.annotation(key, _contents(_beside(picture, texts), troubles))
        else:
            told = Told(label=inside.parts[0].replace("_", " ")) if len(inside.parts) > 1 else None
            if told is None:
                troubles.add(key, "no readable text", "no text beside it, and it lies in no folder of a label")
        if told is not None and picture.stat().st_size == 0:
            troubles.add(key, "empty picture", "it has no bytes")
        elif told is not None:
            yield Entry(key, Place(picture), told, opaque=suffix_of(picture.name) in OPAQUE_SUFFIXES)


def found_suffixes(files: Iterable[Path]) -> str:
    """What a folder without pictures holds instead, and where that belongs."""
    counts = Counter(suffix_of(file.name) for file in files)
    if not counts:
        return "and nothing else"
    listed = ", ".join(f".{suffix} ({count:,})" for suffix, count in counts.most_common(NAMED))
    hint = ": shards are named as files, by `shards: FOLDER/*.tar`" if "tar" in counts else ""
    return f"but {listed}{hint}"


def _texts_by_picture(files: Iterable[Path]) -> dict[Path, list[Path]]:
    """Text files by the path that they share with a picture: NAME for NAME.txt, or NAME.jpg for NAME.jpg.txt."""
    found: dict[Path, list[Path]] = {}
    for file in files:
        if suffix_of(file.name) in TEXT_SUFFIXES:
            found.setdefault(file.with_suffix(""), []).append(file)
    return found


def _beside(picture: Path, texts: Mapping[Path, list[Path]]) -> list[Path]:
    return [*texts.get(picture.with_suffix(""), ()), *texts.get(picture, ())]


def _contents(files: Iterable[Path], troubles: Troubles) -> dict[str, bytes]:
    contents: dict[str, bytes] = {}
    for file in files:
        try:
            contents.setdefault(suffix_of(file.name), read_bounded(file, MAX_TEXT_BYTES))
        except OSError as error:
            troubles.pass_over(f"{file} ({error})", "a text that cannot be read")
    return contents


def _pass_over_others(
    files: Iterable[Path], captioned: Iterable[Path], texts: Mapping[Path, list[Path]], troubles: Troubles
) -> None:
    """Count what is neither a picture nor the text of one."""
    read = {text for picture in captioned for text in _beside(picture, texts)}
    for file in files:
        if file not in read and (suffix := suffix_of(file.name)) not in PICTURE_SUFFIXES:
            kind = "a text without a picture" if suffix in TEXT_SUFFIXES else "neither a picture nor a text"
            troubles.pass_over(str(file), kind)
