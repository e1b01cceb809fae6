from __future__ import annotations


class Recorder:
    """Remembers what a download tells."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.steps: list[tuple[str, int, int | None]] = []

    def progress(self, file: str, done: int, total: int | None) -> None:
        self.steps.append((file, done, total))

    def note(self, message: str) -> None:
        self.notes.append(message)
