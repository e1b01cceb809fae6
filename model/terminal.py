"""Names and texts of others on a terminal, which would obey what is in them: colours, titles, lines written over."""

from __future__ import annotations

import logging


def printable(text: str, keep: str = "") -> str:
    """The same text, with everything that is no character to be seen written as an escape."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else c.encode("unicode_escape").decode("ascii") for c in text)


class PrintableFormatter(logging.Formatter):
    """Lines of a log for a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        """As of a Formatter."""
        return printable(super().format(record), keep="\n")
