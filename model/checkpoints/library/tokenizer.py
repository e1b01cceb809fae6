"""The tokenizer of a folder, of whatever kind transformers reads: as one tokenizer.json, and what surrounds it.

transformers builds its own tokenizer from what the folder has, offline and without code of the folder's. What that
computes beyond its tokenizer.json is refused: the ids of a few texts are compared.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from model.checkpoints.checkpoint import CheckpointError, naming
from model.checkpoints.folders import read_object
from model.checkpoints.transformers.spiece import longest_piece
from model.library_config import LibraryTextConfig, TextCleaning
from model.manifest import TOKENIZER
from model.requirements import how_to_install
from model.smoke_inputs import PASSAGE
from model.tokenizers.clip import TextTokenizer, Tokenizer, TokenizerError
from model.tokenizers.fast import FastTokenizer
from model.tokenizers.tokenizer_json import failure

SETTINGS = "tokenizer_config.json"
VOCABULARIES = (
    TOKENIZER, "sentencepiece.bpe.model", "spiece.model", "tokenizer.model", "vocab.txt", "vocab.json", "merges.txt",
)  # fmt: skip
BESIDE = ("special_tokens_map.json", "added_tokens.json")
MAX_BYTES = 192 * 1024**2  # of one file
MAX_PIECE_BYTES = 1024
MAX_ID = 2_000_000
NO_MAXIMUM = 10**9  # what transformers writes for a tokenizer without a longest text is far beyond
# Texts of many kinds, none of which spells a control token.
_PROBES = (
    "", " ", PASSAGE, PASSAGE.upper(), "  two  spaces\n", "naïve Straße №½ ﬁ e\u0301", "Привет, мир!", "東京の猫",
    "مرحبا بالعالم", "안녕하세요", "สวัสดี", "👩‍👩‍👧 😀", "it's don't 12,345.67 a_b", "\u200b\ufeff\x07",
)  # fmt: skip


@dataclass(frozen=True)
class FolderTokenizer:
    """A tokenizer as a bundle holds it, and what a model needs to know of it."""

    content: str = field(repr=False)  # of tokenizer.json
    tokenizer: Literal["clip", "hugging_face"]
    pad_id: int
    clean: TextCleaning
    source: str  # class and files, for people
    model_max_length: int | None = None  # tokens, where the files say
    appended_id: int | None = None  # put by the network behind each padded row, in the last place of the context
    warnings: tuple[str, ...] = ()

    def text_config(self, context_length: int, vocab_size: int, fixed_length: bool) -> LibraryTextConfig:
        """The configuration of a tower with such an embedding and context, whose rows this tokenizer makes.

        What the network appends is not part of its rows. Raises pydantic's ValidationError.
        """
        return LibraryTextConfig(
            context_length=context_length - (self.appended_id is not None),
            vocab_size=vocab_size,
            pad_id=self.pad_id,
            fixed_length=fixed_length,
            tokenizer=self.tokenizer,
            clean=self.clean,
        )

    def build(self, text: LibraryTextConfig) -> TextTokenizer:
        """The tokenizer for a tower of that configuration. Raises CheckpointError where the two do not fit."""
        try:
            if self.tokenizer == "clip":
                return Tokenizer.parse(self.content, text.context_length, text.pad_id, text.fixed_length)
            return FastTokenizer.parse(self.content, text)
        except TokenizerError as error:
            raise CheckpointError(f"the tokenizer ({self.source}): {error}") from error


def read_hf_tokenizer(folder: Path, **settings: Any) -> FolderTokenizer:
    """The tokenizer that transformers' AutoTokenizer builds of the files in `folder`, with `settings` over theirs.

    Raises CheckpointError naming the file or setting that is missing, refused or not understood.
    """
    theirs, source = load_hf_tokenizer(folder, settings)
    content = run_once(theirs, folder)
    expect_same_ids(theirs, content, "none", folder)
    warnings = unknown_ends(theirs, folder)
    return FolderTokenizer(
        content, "hugging_face", pad_id(theirs, folder), "none", source, longest(theirs), warnings=warnings
    )


def load_hf_tokenizer(folder: Path, settings: Mapping[str, Any]) -> tuple[Any, str]:
    """The tokenizer of transformers, and its class and files. Raises CheckpointError."""
    files = [name for name in VOCABULARIES if (folder / name).is_file()]
    if not files:
        raise CheckpointError(f"{folder} has no tokenizer: none of {', '.join(VOCABULARIES)}")
    with _transformers() as transformers, _copy(folder, files) as copy:
        try:
            theirs = transformers.AutoTokenizer.from_pretrained(
                str(copy), local_files_only=True, trust_remote_code=False, **settings
            )
        except BaseException as error:  # whatever files make of it, a panic of the tokenizers library too
            raise CheckpointError(f"{folder}: transformers reads no tokenizer of it: {failure(error)}") from error
    kind = type(theirs).__name__
    if not hasattr(theirs, "backend_tokenizer"):
        raise CheckpointError(f"{folder}: its tokenizer is a {kind}, which is not one of the tokenizers library")
    for side in ("padding_side", "truncation_side"):
        if getattr(theirs, side) != "right":
            raise CheckpointError(
                f"{folder / SETTINGS}: {side} is {getattr(theirs, side)!r:.20}, and texts are padded and cut on the "
                f'right here: write "{side}": "right" into it if the model was trained so'
            )
    return theirs, f"{kind} of {', '.join(files)}"


def run_once(theirs: Any, folder: Path) -> str:
    """The tokenizer.json of a tokenizer as it is when texts are given to it: some set their language only then."""
    with _naming_failures(folder):
        theirs([PASSAGE], verbose=False)
        theirs.backend_tokenizer.no_padding()
        theirs.backend_tokenizer.no_truncation()
        content: str = theirs.backend_tokenizer.to_str()
    return content


def expect_same_ids(
    theirs: Any, content: str, clean: TextCleaning, folder: Path, changed: Callable[[list[int]], list[int]] = list
) -> None:
    """Raise CheckpointError where `content` is none that we read, or gives other ids than `changed` makes of theirs."""
    text = LibraryTextConfig(
        context_length=4096, vocab_size=MAX_ID, pad_id=0, fixed_length=False, tokenizer="hugging_face", clean=clean
    )
    try:
        ours = FastTokenizer.parse(content, text)
        rows = ours.encode(_PROBES)
    except TokenizerError as error:
        raise CheckpointError(f"{folder}: {error}") from error
    with _naming_failures(folder):
        expected = [changed(row) for row in theirs([ours.prepare(probe) for probe in _PROBES], verbose=False).input_ids]
    for probe, row, other in zip(_PROBES, rows, expected, strict=True):
        if row != other:
            raise CheckpointError(
                f"{folder}: {type(theirs).__name__} has other ids than its tokenizer.json, of {probe!r:.80}"
            )


def pad_id(theirs: Any, folder: Path) -> int:
    """What fills rows up. Raises CheckpointError where nothing does."""
    if theirs.pad_token_id is None:
        raise CheckpointError(f"{folder / SETTINGS} names no pad_token, with which texts are filled up")
    return int(theirs.pad_token_id)


def unknown_ends(theirs: Any, folder: Path) -> tuple[str, ...]:
    """A warning where texts are begun or ended with the token for what is unknown."""
    with _naming_failures(folder):
        written = theirs([""]).input_ids[0]
    if theirs.unk_token_id is None or theirs.unk_token_id not in written:
        return ()
    kind, unknown = type(theirs).__name__, theirs.unk_token
    return (
        f"{kind} of {folder.name} writes {unknown} where it should write a control token, which its files lack (those "
        f"of languages, mostly, are in {BESIDE[0]}): so here, as transformers does",
    )


def longest(theirs: Any) -> int | None:
    """Tokens of the longest text, control tokens included, where the files say."""
    most = theirs.model_max_length
    return int(most) if isinstance(most, int) and most < NO_MAXIMUM else None


@contextmanager
def _transformers() -> Iterator[Any]:
    try:
        import transformers
    except ImportError as error:
        missing = (error.name or "transformers").partition(".")[0]
        raise CheckpointError(f"transformers reads this tokenizer. {how_to_install(missing, 'convert-all')}") from error
    yield transformers


@contextmanager
def _naming_failures(folder: Path) -> Iterator[None]:
    try:
        yield
    except CheckpointError:
        raise
    except BaseException as error:
        raise CheckpointError(f"{folder}: its tokenizer reads no texts: {failure(error)}") from error


@contextmanager
def _copy(folder: Path, files: list[str]) -> Iterator[Path]:
    """A folder of links to the tokenizer's files, with settings that name no other file and no code."""
    for name in (*files, *(name for name in BESIDE if (folder / name).is_file())):
        if (folder / name).stat().st_size > MAX_BYTES:
            raise CheckpointError(f"{folder / name} is larger than {MAX_BYTES >> 20} MiB: it is not what its name says")
        if name.endswith(".model"):
            with naming(folder / name):
                _expect_short_pieces((folder / name).read_bytes())
    if "vocab.json" in files and not {TOKENIZER, "merges.txt"} & set(files):
        raise CheckpointError(f"{folder} has vocab.json without merges.txt: put that beside it")
    settings = _settings(folder / SETTINGS)
    with tempfile.TemporaryDirectory(prefix="tokenizer-") as made:
        copy = Path(made)
        for name in (*files, *BESIDE):
            if (folder / name).is_file():
                (copy / name).symlink_to((folder / name).resolve())
        (copy / SETTINGS).write_text(json.dumps(settings), "utf-8")
        if (folder / "config.json").is_file():
            config = read_object(folder / "config.json")
            named = {key: config[key] for key in ("model_type", "tokenizer_class") if isinstance(config.get(key), str)}
            (copy / "config.json").write_text(json.dumps(named), "utf-8")
        yield copy


def _expect_short_pieces(content: bytes) -> None:
    """transformers cuts each piece in two at every place, which takes the square of its length."""
    longest = longest_piece(content)
    if not 0 < longest <= MAX_PIECE_BYTES:
        raise CheckpointError(f"its longest piece has {longest} bytes: it is not what its name says")


def _settings(file: Path) -> dict[str, Any]:
    settings = read_object(file) if file.exists() else {}
    code = settings.get("auto_map")
    if isinstance(code, dict):
        code = code.get("AutoTokenizer")
    if code:
        raise CheckpointError(
            f"{file} has its tokenizer built by code of its own (auto_map {code!r:.100}): nothing of a checkpoint is "
            "executed; take a model whose tokenizer transformers has itself"
        )
    added = settings.get("added_tokens_decoder") or {}
    if not isinstance(added, dict) or not all(key.isdecimal() and int(key) < MAX_ID for key in added):
        raise CheckpointError(f"{file} has added_tokens_decoder with ids that are not numbers below {MAX_ID}")
    return {key: value for key, value in settings.items() if not key.endswith("_file") and key not in _PASSED_OVER}


# Where the files came from, what renders conversations, and what would have transformers look elsewhere.
_PASSED_OVER = frozenset((
    "auto_map", "name_or_path", "chat_template", "cache_dir", "subfolder", "revision", "token", "proxies",
    "code_revision", "from_pipeline",
))  # fmt: skip
