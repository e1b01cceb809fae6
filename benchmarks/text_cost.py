"""What the costliest texts known take to clean and to tokenize: python -m benchmarks.text_cost

Microseconds of one core for each character, for CLIP's tokenizer as the service calls it. The service reads at most
`max_text_characters` of a text, and of most texts far less: as much as makes a context.
"""

from __future__ import annotations

import os
import time

from model.tokenizers.clip import Tokenizer

LENGTHS = (256, 2_048, 10_000)
ROUNDS = 3
# By what is repeated. What comes once stands in front.
TEXTS: dict[str, tuple[str, str]] = {
    "a photo of a cat": ("", "a photo of a cat "),
    "one word": ("", "a"),
    "numbers": ("", "1"),
    "accents": ("", "café "),
    "lines of one character": ("", "é\n"),
    "empty lines": ("", "\n"),
    "control characters, line by line": ("", "\x81\n"),
    "control characters": ("", "\x81"),
    "wrongly decoded": ("", "Ã© "),
    "wrongly decoded, line by line": ("", "Ã©\n"),
    "wrongly decoded in two ways": ("", "Ã ¡\u4e00\n"),
    "wrongly decoded in two ways, line by line": ("", "Ã©\u4e00\n"),
    "that vanish": ("\u4e00", "Â\xa0"),
    "chain of wrong decodings": ("Ã", "\x83"),
    "chain of entities": ("&", "amp;"),
    "entities": ("", "&eacute;"),
    "unknown entities": ("", "&aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"),
    "combining marks": ("e", "\u0323\u0301"),
    "halves of characters": ("", "\ud83d"),
    "capitals that become two": ("", "İ"),
    "ligatures": ("", "ﬃ"),
    "U+FDFA": ("", "\ufdfa"),
    "emoji": ("", "😀"),
}


def main() -> None:
    """Print a table, the costliest first."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # the time of all its threads would count
    tokenizer = Tokenizer.clip()
    rows = []
    for name, (first, unit) in TEXTS.items():
        texts = [(first + unit * length)[:length] for length in LENGTHS]
        rows.append((name, [_microseconds(tokenizer, text) for text in texts]))
    print("| us a character, of a text of | " + " | ".join(f"{length:,}" for length in LENGTHS) + " |")
    print("| --- |" + " --- |" * len(LENGTHS))
    for name, costs in sorted(rows, key=lambda row: -max(row[1])):
        print(f"| {name} | " + " | ".join(f"{cost:.2f}" for cost in costs) + " |")


def _microseconds(tokenizer: Tokenizer, text: str) -> float:
    took_s = []
    for _ in range(ROUNDS):
        started = time.process_time()
        tokenizer.encode([text], enough=tokenizer.context_length)
        took_s.append(time.process_time() - started)
    return min(took_s) / len(text) * 1e6


if __name__ == "__main__":
    main()
