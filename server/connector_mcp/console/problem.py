"""A request of the console that ends in a sentence instead of a page."""

from __future__ import annotations


class Problem(Exception):
    """What happened and what to do about it, for a person, with the HTTP status that says the same."""

    def __init__(
        self, status: int, title: str, sentence: str, fix: str = "", *, retry_after: int | None = None
    ) -> None:
        super().__init__(sentence)
        self.status = status
        self.title = title
        self.sentence = sentence
        self.fix = fix
        self.retry_after = retry_after
        """Seconds."""
