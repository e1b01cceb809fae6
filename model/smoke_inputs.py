"""The pictures and texts on which an export is compared with its source: small, real, and always at hand."""

from __future__ import annotations

from importlib import resources
from itertools import takewhile

import numpy as np
import numpy.typing as npt
from PIL import Image

from model.config import Preprocessing
from model.images.preprocessing import decode, preprocess
from model.tokenizers.categories import CategoryTokenizer
from model.tokenizers.clip import TextTokenizer

PASSAGE = (
    "a photo of a tabby cat that looks into the camera, beside it a red cup of coffee on a wooden table, a rocket "
    "that leaves the ground at night in a cloud of white smoke, an astronaut in an orange suit before a flag, two "
    "brown dogs running along the beach, a bowl of fruit with 3 apples, 2 pears and some grapes, an old bicycle "
    "against a wall, a bird's nest, rain in the city, a yellow taxi, snow on the mountains and the quiet sea"
)

CATEGORIES = 64  # of a model whose texts are categories


def photographs() -> list[Image.Image]:
    """The photographs that ship, always in the same order."""
    folder = resources.files("model").joinpath("probe_data")
    decoded = [decode(f.read_bytes()) for f in folder.iterdir() if f.name.endswith(".jpg")]
    return sorted(decoded, key=lambda photograph: photograph.tobytes()[:64])


def pixels(preprocessing: Preprocessing, count: int) -> npt.NDArray[np.uint8]:
    """`count` different images, uint8 [count, size, size, 3]: crops of the photographs, every other one mirrored."""
    sources = photographs()
    images = []
    for i in range(count):
        photograph = sources[i % len(sources)]
        inset = 4 * (i // len(sources))
        crop = photograph.crop((inset, inset // 2, photograph.width - inset, photograph.height - inset))
        image = preprocess(crop, preprocessing)
        images.append(image[:, ::-1] if i % 2 else image)
    return np.stack(images)


def token_rows(tokenizer: TextTokenizer) -> list[list[int]]:
    """The passage cut to every length from one token of it to the context length, each with its control tokens.

    Of categories, which are no text, some of them.
    """
    if isinstance(tokenizer, CategoryTokenizer):
        return category_rows(tokenizer, CATEGORIES)
    [nothing], [whole] = tokenizer.encode([""]), tokenizer.encode([f"{PASSAGE} {PASSAGE}"])
    # Some write tokens before and after a text, some after it only.
    before = _common_beginning(nothing, whole)
    after = _common_beginning(nothing[len(before) :][::-1], whole[::-1])[::-1]
    content = whole[len(before) : len(whole) - len(after)]
    lengths = range(1, min(len(content), tokenizer.context_length - len(before) - len(after)) + 1)
    return [[*before, *content[:length], *after] for length in lengths]


def category_rows(tokenizer: CategoryTokenizer, most: int) -> list[list[int]]:
    """The rows of at most so many categories, evenly from the first to the last."""
    last = tokenizer.vocab_size - 1
    return [[1 + i * (last - 1) // max(min(most, last) - 1, 1)] for i in range(min(most, last))]


def _common_beginning(first: list[int], second: list[int]) -> list[int]:
    pairs = takewhile(lambda pair: pair[0] == pair[1], zip(first, second, strict=False))
    return [index for index, _ in pairs]
