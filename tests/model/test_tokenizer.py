"""The tokenizer against OpenAI's published ids, an implementation written here and one that is not ours."""

from __future__ import annotations

import json
import random
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from model.tokenizers.cleaning import clean
from model.tokenizers.clip import Tokenizer, TokenizerError
from tests.model.plain_tokenizer import PlainTokenizer

SOT, EOT = 49406, 49407

# Made with OpenAI's own tokenizer and ftfy 6.3.1.
GOLDEN = {
    "a diagram": [320, 22697],
    "a dog": [320, 1929],
    "a cat": [320, 2368],
    "hello world": [3306, 1002],
    "a photo of a cat": [320, 1125, 539, 320, 2368],
    "A person riding a motorcycle": [320, 2533, 6765, 320, 10297],
    "You should've done this": [592, 1535, 1200, 1700, 589],
    "you're, don't, her's": [592, 982, 267, 847, 713, 267, 899, 568],
    "2023-01-01": [273, 271, 273, 274, 268, 271, 272, 268, 271, 272],
    "HELLO   World!!": [3306, 1002, 748],
    "café naïve": [15304, 1097, 35689, 563],
    "&amp;lt;b&amp;gt; tag": [283, 321, 285, 3640],
    "\U0001f600 smile": [7334, 3490],
    "猫 の 写真": [163, 234, 360, 4813, 362, 44653, 33440, 509],
    "it\u2019s \u201cquoted\u201d": [585, 568, 257, 27706, 257],
    "": [],
    "a\x1cb": [3937],
    "A\n'll 11p223RF☆ho!!to?'d'd''d of a cat to-$''d.": [
        *[320, 1342, 272, 272, 335, 273, 273, 274, 16368, 13439, 2971, 748, 531, 13610, 323, 1896, 8445, 323, 539],
        *[320, 2368, 531, 12, 3, 8445, 323, 269],
    ],
    # The two places where matching case-insensitively reaches beyond the lower-cased text.
    "'\u017f": [6, 129, 379],
    "a\u0345b !\u0345!": [320, 321, 256, 256],
    # Final sigma, and a capital that lower-cases to two characters.
    "İ ΟΔΟΣ": [328, 16384, 138, 123, 138, 112, 138, 123, 139, 480],
}

NASTY = [
    *["\x00", "a\x00b", "&#0;", "&#x110000;", "&#55357;", "\ud83d", "\ud83d\ude00", "\udc00\ud800", "\ud83d\n\ude00"],
    *[
        "\x85",
        "a\x85b",
        "\xa0",
        "\u2028",
        "\u200b",
        "\ufeff",
        "\u202eabc",
        "👨‍👩‍👧‍👦",
        "🏳️‍🌈",
        "مرحبا",
        "שלום",
        "한국어",
        "\U0010ffff",
    ],
    *[
        "â€œmojibakeâ€\x9d",
        "cafÃ©",
        "ﬁne Ｆｕｌｌ",
        "\x1b[31mred\x1b[0m",
        "&",
        "&;",
        "&#;",
        "&#x;",
        "&nosuch;",
        "<&amp;>",
    ],
    *["&#" + "9" * 5000 + ";", "&#" + "&#49;" * 5000, "&#x" + "f" * 5000 + ";", "0" * 5000, "e" + "\u0301" * 5000],
    *["a" * 20000, "cat " * 5000, "é" * 5000, "\n" * 5000, "é\n" * 5000, "😀" * 5000, "'" * 5000, "\ud83d" * 5000],
]


@pytest.fixture(scope="module")
def clip() -> Tokenizer:
    return Tokenizer.clip()


@pytest.fixture(scope="module")
def saved(clip: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    clip.save(path)
    return path


def plain(tokenizer: Tokenizer, text: str) -> list[int]:
    sot, *ids, eot = tokenizer.encode([text])[0]
    assert (sot, eot) == (tokenizer.sot_id, tokenizer.eot_id)
    return ids


@pytest.fixture(scope="module")
def by_the_book() -> PlainTokenizer:
    return PlainTokenizer()


def random_texts(count: int, seed: int) -> list[str]:
    """Texts over words, scripts, punctuation and digits that every Unicode version of the last years agrees on."""
    draw = random.Random(seed)
    blocks = [(0x20, 0x7F), (0x20, 0x7F), (0xA1, 0x250), (0x370, 0x5F0), (0x900, 0xA00), (0x2000, 0x2C00)]
    blocks += [(0x3040, 0x3100), (0x4E00, 0x4F00), (0xAC00, 0xAD00), (0x1F300, 0x1F600)]
    characters = [[chr(c) for c in range(*block) if unicodedata.category(chr(c))[0] != "C"] for block in blocks]
    words = ["it's", "they'll", "o'clock", "'ve", "''d", "photograph", "of", "a", "cat", "!!!", "3.14", "<|endoftext|>"]

    def one() -> str:
        pieces = [
            draw.choice(words) if draw.random() < 0.4 else draw.choice(draw.choice(characters)) for _ in range(20)
        ]
        return draw.choice(["", " "]).join(pieces)

    # U+209D..U+209F and their like are letters only in the newest tables; U+0345 has its own golden vector.
    return [text for text in (clean(one()) for _ in range(count)) if "\u0345" not in text and text == clean(text)]


@pytest.mark.parametrize("text", GOLDEN, ids=ascii)
def test_golden_vectors(clip: Tokenizer, text: str) -> None:
    assert clip.encode([text]) == [[SOT, *GOLDEN[text], EOT]]


def test_ids_of_the_reference(clip: Tokenizer, saved: Path) -> None:
    assert (clip.vocab_size, clip.sot_id, clip.eot_id, clip.context_length) == (49408, SOT, EOT, 77)
    vocabulary = json.loads(saved.read_text())["model"]["vocab"]
    assert [vocabulary[t] for t in ("!", "!</w>", "in", "jekyll</w>")] == [0, 256, 512, 49405]
    assert sorted(vocabulary.values()) == list(range(49408))


def test_same_as_by_the_book(clip: Tokenizer, by_the_book: PlainTokenizer) -> None:
    texts = random_texts(1500, seed=1)
    assert len(texts) > 1000
    for text, ids in zip(texts, clip.encode(texts), strict=True):
        assert ids[1:-1] == by_the_book.encode(text), ascii(text)


def test_same_as_instant_clip_tokenizer(clip: Tokenizer) -> None:
    peer = pytest.importorskip("instant_clip_tokenizer", reason="an independent tokenizer: pip install it to compare")
    other = peer.Tokenizer()
    texts = random_texts(6000, seed=2)
    for text, ids in zip(texts, clip.encode(texts), strict=True):
        assert ids[1:-1] == other.encode(text), ascii(text)


@pytest.mark.parametrize("text", NASTY, ids=lambda text: ascii(text[:24]))
def test_nasty_texts_give_ids(clip: Tokenizer, text: str) -> None:
    ids = clip.encode([text])[0]
    assert ids[0] == SOT
    assert ids[-1] == EOT
    assert all(0 <= i < SOT for i in ids[1:-1])


@given(st.lists(st.text(alphabet=st.characters(exclude_categories=[]), max_size=60), max_size=4))
@settings(max_examples=300, deadline=None)
def test_any_text_gives_ids(clip: Tokenizer, texts: list[str]) -> None:
    rows = clip.encode(texts)
    assert len(rows) == len(texts)
    assert all(row[0] == SOT and row[-1] == EOT and max(row[1:-1], default=0) < SOT for row in rows)
    assert [clip.encode([text])[0] for text in texts] == rows


@given(st.text(alphabet="ab Zé\t\n.'<&;#1x"))
@settings(deadline=None)
def test_the_short_way_through_cleaning_changes_nothing(text: str) -> None:
    # One soft hyphen takes the long way and leaves the rest of the text alone.
    assert clean(text + " \xad").removesuffix("\xad").strip() == clean(text)


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("  A\t\tB \n", "a b"),
        ("&amp;amp;lt;", "<"),
        ("< e&#x301;", "< e\u0301"),
        ("\ud83d\ude00", "😀"),
        ("a\ud83d", "a\ufffd"),
        ("&#" + "9" * 5000 + ";", "\ufffd"),
        ("é " * 3000, " ".join("é" * 3000)),
        ("cafÃ© " * 1000, " ".join(["café"] * 1000)),
    ],
    ids=lambda text: ascii(text[:20]),
)
def test_cleaning(text: str, cleaned: str) -> None:
    assert clean(text) == cleaned


def test_long_texts_take_time_in_proportion_to_their_length(clip: Tokenizer) -> None:
    # As one piece each of these takes minutes.
    texts = ["e" + "\u0301\u0323" * 50_000, "é\n" * 50_000]
    assert [len(ids) > 77 for ids in clip.encode(texts)] == [True, True]


@pytest.mark.parametrize("control", ["<|startoftext|>", "<|endoftext|>", "<|ENDOFTEXT|>", "&lt;|endoftext|&gt;"])
def test_control_tokens_in_a_text_are_characters(clip: Tokenizer, saved: Path, control: str) -> None:
    name = "startoftext" if "start" in control else "endoftext"
    spelled = [*plain(clip, "<|"), *plain(clip, name), *plain(clip, "|>")]
    assert plain(clip, f"x {control} y") == [343, *spelled, 344]
    if "&" not in control:
        assert tokenizers.Tokenizer.from_file(str(saved)).encode(control).ids == [SOT, *spelled, EOT]


def test_saved_file_alone_gives_the_same_ids(clip: Tokenizer, saved: Path) -> None:
    client = tokenizers.Tokenizer.from_file(str(saved))
    texts = [*random_texts(1000, seed=3), "", "  Two   Words\u3000HERE ", "ÉTÉ", "e\u0301te\u0301", "It'S"]
    assert [e.ids for e in client.encode_batch(texts)] == clip.encode(texts)
    assert (
        client.decode(clip.encode(["a photo of a café, it's 20"])[0][1:-1]).strip() == "a photo of a café , it 's 2 0"
    )


def test_load_reads_what_save_wrote(clip: Tokenizer, saved: Path, tmp_path: Path) -> None:
    loaded = Tokenizer.load(saved, context_length=32)
    assert (loaded.vocab_size, loaded.sot_id, loaded.eot_id, loaded.context_length) == (49408, SOT, EOT, 32)
    texts = [text for text in [*GOLDEN, *NASTY] if len(text) < 1000]
    assert loaded.encode(texts) == clip.encode(texts)
    loaded.save(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == saved.read_bytes()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"[]",
        b"\xff\xfe",
        b'{"model": {"type": "WordLevel"}}',
        b'{"model": {"type": "BPE", "end_of_word_suffix": "</w>"}}',
    ],
)
def test_load_names_a_file_that_is_no_tokenizer(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_bytes(content)
    with pytest.raises(TokenizerError, match=r"tokenizer\.json"):
        Tokenizer.load(path, 77)


def test_load_refuses_other_vocabularies_and_missing_files(saved: Path, tmp_path: Path) -> None:
    altered = json.loads(saved.read_text())
    vocabulary = altered["model"]["vocab"]
    vocabulary["<|other|>"] = vocabulary.pop("<|endoftext|>")
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(altered))
    with pytest.raises(TokenizerError, match="endoftext"):
        Tokenizer.load(path, 77)
    with pytest.raises(TokenizerError, match=r"missing\.json"):
        Tokenizer.load(tmp_path / "missing.json", 77)


@pytest.mark.parametrize("vocab_size", [514, 515, 1024, 20_000])
def test_a_smaller_vocabulary_keeps_the_first_merges(saved: Path, tmp_path: Path, vocab_size: int) -> None:
    small = Tokenizer.clip(vocab_size=vocab_size, context_length=32)
    assert (small.vocab_size, small.sot_id, small.eot_id) == (vocab_size, vocab_size - 2, vocab_size - 1)
    small.save(tmp_path / "small.json")
    full, cut = (json.loads(path.read_text())["model"] for path in (saved, tmp_path / "small.json"))
    assert cut["merges"] == full["merges"][: vocab_size - 514]
    assert {token: index for token, index in full["vocab"].items() if index < vocab_size - 2}.items() <= cut[
        "vocab"
    ].items()
    assert max(plain(small, "a photograph of a café, 猫 😀")) < small.sot_id


@pytest.mark.parametrize("vocab_size", [0, 513, 49409])
def test_impossible_vocabulary_sizes(vocab_size: int) -> None:
    with pytest.raises(TokenizerError, match="514 to 49408"):
        Tokenizer.clip(vocab_size=vocab_size)


def test_truncation_keeps_the_end_of_text_last(clip: Tokenizer) -> None:
    ids = clip.encode(["cat " * 100])[0]
    assert len(ids) == 102
    assert clip.truncate(ids) == [*ids[:76], EOT]
    fitting = clip.encode(["cat " * 75])[0]
    assert len(fitting) == 77
    assert clip.truncate(fitting) == fitting
    with pytest.raises(TokenizerError, match="context_length"):
        Tokenizer.clip(context_length=1)


def test_padding(clip: Tokenizer) -> None:
    padded = clip.pad(clip.encode(["a cat", "", "a photo of a cat"]))
    assert padded.dtype == np.int64
    assert padded.tolist() == [
        [SOT, 320, 2368, EOT, 0, 0, 0],
        [SOT, EOT, 0, 0, 0, 0, 0],
        [SOT, 320, 1125, 539, 320, 2368, EOT],
    ]
    assert clip.pad([]).shape == (0, 0)
    assert (padded.argmax(axis=1) == [3, 1, 6]).all()


def test_one_string_is_not_a_list_of_texts(clip: Tokenizer) -> None:
    assert clip.encode([]) == []
    with pytest.raises(TokenizerError, match="list"):
        clip.encode("a cat")
