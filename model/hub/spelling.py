"""How one published model is written by open_clip, OpenAI, immich, clip-retrieval and others: to one key."""

from __future__ import annotations

import re
from collections.abc import Iterator

Key = tuple[str, str]  # architecture and tag, without what differs from writer to writer

_PREFIX = re.compile(r"(hf[-_]hub:|https?://(www\.)?(huggingface\.co|hf\.co)/|open_clip[:/])", re.IGNORECASE)
# OpenAI writes ViT-B/32; any other slash stands between an organisation and a name, or an architecture and its tag.
_PATCHES = re.compile(r"(ViT-\w{1,8})/(\d\d)", re.IGNORECASE | re.ASCII)


def plain_name(name: str) -> str:
    """The name without what only says where it is looked up: `hf-hub:`, `open_clip/`, the address of the hub."""
    return _PREFIX.sub("", name.strip(), count=1).rstrip("/") if _PREFIX.match(name.strip()) else name


def spelling_keys(name: str) -> Iterator[Key]:
    """The keys that a name may mean, the likeliest first; at least one."""
    name = _PATCHES.sub(r"\1-\2", name, count=1)
    for separator in ("__", ":"):
        if separator in name:
            architecture, _, tag = name.partition(separator)
            yield spelling_key(architecture, tag)
            return
    architecture, _, tag = name.rpartition("/")
    yield spelling_key(name) if not architecture else spelling_key(architecture, tag)


def spelling_key(architecture: str, tag: str = "") -> Key:
    """`ViT-L-14@336px` and `ViT-L-14-336`, `laion2b-s34b-b79K` and `laion2b_s34b_b79k` are the same.

    So is an architecture with `-quickgelu`: what a repository says of its activation decides.
    """
    folded = re.sub(r"[/_@ -]+", "-", architecture.casefold()).removesuffix("-quickgelu")
    return re.sub(r"-336px\Z", "-336", folded), re.sub(r"[ -]+", "_", tag.casefold())


def display_key(key: Key) -> str:
    """A key as one word, for comparisons."""
    return ":".join(key).rstrip(":")
