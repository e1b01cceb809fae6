"""Scans folders of images: captions beside them, a metadata file, or a folder for each label."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from model.data.files import (
    IMAGE_SUFFIXES,
    MAX_TEXT_BYTES,
    OPAQUE_SUFFIXES,
    TEXT_SUFFIXES,
    is_system_name,
    read_bounded,
    suffix_of,
)
from model.data.skipped_samples import SkippedSamples
from model.data.walk import regular_files
from model.suggestions import did_you_mean_path
from training.config import Source
from training.data.annotation import AnnotationReader
from training.data.sample import Annotation, SampleLocation, SampleRecord
from training.data.shards import ShardError
from training.data.tables import scan_tables

METADATA = ("metadata.csv", "metadata.tsv", "metadata.jsonl", "metadata.parquet")
NAMED = 8  # suffixes in a message


def scan_folder(
    folder: Path, source: Source, skipped: SkippedSamples, caption_names: Sequence[str] = ()
) -> Iterator[SampleRecord]:
    """A record for every image that has a text, in the order of their paths.

    By `metadata.csv`, `.tsv`, `.jsonl` or `.parquet` where there is one; else by NAME.json, NAME.txt (a caption a line)
    or NAME.cls beside NAME.jpg; where there is no such file, the outermost folder in `folder` is the label.
    Raises ShardError if it is no folder, or holds no images.
    """
    if not folder.is_dir():
        raise ShardError(f"{folder} is not a folder{did_you_mean_path(folder)}")
    files = list(regular_files(folder, skipped))
    images = [file for file in files if suffix_of(file.name) in IMAGE_SUFFIXES]
    tables = [file for file in files if file.name in METADATA]
    if tables:
        used: set[Path] = set()
        for record in scan_tables(tables, source, skipped, caption_names):
            used.add(record.location.file.resolve())
            yield record
        for image in images:
            if image.resolve() not in used:
                skipped.pass_over(
                    str(image), f"a picture that {', '.join(sorted({t.name for t in tables}))} leaves out"
                )
        return
    if not images:
        raise ShardError(f"{folder} holds no picture files, {found_suffixes(files)}")
    texts = _texts_by_picture(files)
    captioned = [image for image in images if _beside(image, texts)]
    if captioned and len(captioned) < len(images):
        skipped.note(
            f"{folder}: {len(captioned):,} of {len(images):,} pictures have a text beside them, such as "
            f"{captioned[0].name}; the names of folders are not used as labels"
        )
    _pass_over_others(files, captioned, texts, skipped)
    if not captioned:
        labels = {image.relative_to(folder).parts[0] for image in images}
        for inner in sorted(folder.iterdir()):
            if inner.is_dir() and inner.name not in labels and not is_system_name(inner.name):
                skipped.pass_over(str(inner), "a class folder without pictures")
    reader = AnnotationReader(skipped, source.encoding, caption_names=caption_names)
    for image in images:
        relative = image.relative_to(folder)
        key = f"{folder.name}/{relative.as_posix()}"
        if captioned:
            annotation = reader.read(key, _contents(_beside(image, texts), skipped))
        else:
            annotation = Annotation(label=relative.parts[0].replace("_", " ")) if len(relative.parts) > 1 else None
            if annotation is None:
                skipped.add(key, "no readable text", "no text beside it, and it lies in no folder of a label")
        if annotation is not None and image.stat().st_size == 0:
            skipped.add(key, "empty picture", "it has no bytes")
        elif annotation is not None:
            yield SampleRecord(key, SampleLocation(image), annotation, opaque=suffix_of(image.name) in OPAQUE_SUFFIXES)


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


def _beside(image: Path, texts: Mapping[Path, list[Path]]) -> list[Path]:
    return [*texts.get(image.with_suffix(""), ()), *texts.get(image, ())]


def _contents(files: Iterable[Path], skipped: SkippedSamples) -> dict[str, bytes]:
    contents: dict[str, bytes] = {}
    for file in files:
        try:
            contents.setdefault(suffix_of(file.name), read_bounded(file, MAX_TEXT_BYTES))
        except OSError as error:
            skipped.pass_over(f"{file} ({error})", "a text that cannot be read")
    return contents


def _pass_over_others(
    files: Iterable[Path], captioned: Iterable[Path], texts: Mapping[Path, list[Path]], skipped: SkippedSamples
) -> None:
    """Count what is neither a picture nor the text of one."""
    read = {text for image in captioned for text in _beside(image, texts)}
    for file in files:
        if file not in read and (suffix := suffix_of(file.name)) not in IMAGE_SUFFIXES:
            kind = "a text without a picture" if suffix in TEXT_SUFFIXES else "neither a picture nor a text"
            skipped.pass_over(str(file), kind)
