"""Pictures, or texts, a file each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from model.data.files import MAX_TEXT_BYTES
from model.data.text_files import AnnotationError, decode_text
from model.files import read_regular_file
from service.bulk.sources.cells import Payload, read_picture, text_of, why_unreadable
from service.bulk.sources.part import Item, Part, SourceOptions, utf8_name


def cut_names(folder: Part, names: Iterable[str], options: SourceOptions) -> Iterator[Part]:
    """Parts of the files of these names in `folder`."""
    found = iter(names)
    while some := tuple(islice(found, options.part_rows)):
        yield Part(folder.form, folder.kind, folder.path, len(some), folder.name, names=some)


def read_folder(part: Part, options: SourceOptions) -> Iterator[Item]:
    """The files, in order. What is not there any more, or cannot be read, is an item with the reason.

    Raises OSError where that is of no file: the folder is not there, for one.
    """
    folder = Path(part.path)
    for name in part.names:
        file = folder / name
        payload, error = (read_picture if part.kind == "image" else _read_text)(file, folder, options)
        yield Item(f"{part.name}{utf8_name(name)}", utf8_name(str(file)), payload, error)


def _read_text(file: Path, folder: Path, options: SourceOptions) -> Payload:
    try:
        content, _ = read_regular_file(file, MAX_TEXT_BYTES)
        if len(content) > MAX_TEXT_BYTES:
            return None, f"it has more than {MAX_TEXT_BYTES:,} bytes"
        return text_of(decode_text(content, options.encoding))
    except AnnotationError as error:
        return None, f"{error.reason}: {error}"
    except (OSError, ValueError) as error:
        return None, why_unreadable(error, folder)
