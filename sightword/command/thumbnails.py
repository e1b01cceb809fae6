"""Small pictures on terminals that show them: Kitty's graphics protocol, and inline images as iTerm2 has them.

https://sw.kovidgoyal.net/kitty/graphics-protocol/ and https://iterm2.com/documentation-images.html
"""

from __future__ import annotations

import base64
import io
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

MOST = 5  # side by side
GAP = 6  # pixels between them
ROWS = 5  # of text, which they are as high as
KITTY_CHUNK = 4096  # most characters in one of its commands
KITTY_TERMINALS, ITERM_TERMINALS = ("ghostty",), ("iTerm.app", "WezTerm")


def protocol(environment: Mapping[str, str]) -> str | None:
    """What the terminal understands, as it says itself; nothing inside tmux and screen, which pass on neither."""
    if "TMUX" in environment or environment.get("TERM", "").startswith(("screen", "tmux")):
        return None
    program = environment.get("TERM_PROGRAM", "")
    if "KITTY_WINDOW_ID" in environment or program in KITTY_TERMINALS or environment.get("TERM") == "xterm-kitty":
        return "kitty"
    return "iterm" if program in ITERM_TERMINALS else None


def show(files: Sequence[Path]) -> None:
    """The first few in a row, in their order, as the model sees them; nothing where the terminal shows no pictures."""
    kind = protocol(os.environ)
    if kind is None:
        return
    if (picture := _side_by_side(files)) is not None:
        sys.stdout.write(_kitty(picture) if kind == "kitty" else _iterm(picture))
        sys.stdout.write("\n")
        sys.stdout.flush()


def _side_by_side(files: Sequence[Path]) -> bytes | None:
    """A PNG; without those that cannot be read."""
    from PIL import Image

    from model.bundle import bundled
    from model.images.errors import ImageError
    from model.images.preprocessing import load_image
    from model.manifest import read_manifest

    config = read_manifest(bundled()).preprocessing
    row: list[npt.NDArray[np.uint8]] = []
    for file in files[:MOST]:
        try:
            pixels = load_image(file.read_bytes(), config)
        except (ImageError, OSError):
            continue
        row += [pixels, np.full((len(pixels), GAP, 3), 255, np.uint8)]
    if not row:
        return None
    content = io.BytesIO()
    Image.fromarray(np.concatenate(row[:-1], axis=1)).save(content, "PNG")
    return content.getvalue()


def _kitty(picture: bytes) -> str:
    text = base64.b64encode(picture).decode("ascii")
    chunks = [text[start : start + KITTY_CHUNK] for start in range(0, len(text), KITTY_CHUNK)]
    commands = []
    for place, chunk in enumerate(chunks):
        control = f"f=100,a=T,r={ROWS}," if place == 0 else ""
        commands.append(f"\x1b_G{control}m={int(place < len(chunks) - 1)};{chunk}\x1b\\")
    return "".join(commands)


def _iterm(picture: bytes) -> str:
    options = f"inline=1;size={len(picture)};height={ROWS};preserveAspectRatio=1"
    return f"\x1b]1337;File={options}:{base64.b64encode(picture).decode('ascii')}\x07"
