"""The root of every error that Warren raises, and the catalogue of them all."""

from __future__ import annotations

from collections.abc import Iterator
from string import Formatter
from typing import Any, ClassVar


class WarrenError(Exception):
    """Every error that Warren raises on purpose.

    Attributes:
        code: Stable identifier, `WRN-nnn`.
        text: Template of what happened; its fields name the facts.
        cause: Why this usually happens.
        remedy: What the reader can do.
        public: Whether the facts may leave the node that raised the error. When false, only the class's first
            docstring line does.
        facts: The values passed by the raiser.
    """

    code: ClassVar[str] = "WRN-000"
    text: ClassVar[str] = ""
    cause: ClassVar[str] = ""
    remedy: ClassVar[str] = ""
    public: ClassVar[bool] = False

    def __init__(self, **facts: Any) -> None:
        self.facts = facts
        super().__init__(self.text.format(**facts))

    def __str__(self) -> str:
        return f"{self.code}: {self.text.format(**self.facts)}"

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, (type(self), self.facts))

    @property
    def summary(self) -> str:
        """Return the class's one-line description, free of any value."""
        return (type(self).__doc__ or "").strip().splitlines()[0].rstrip(".")

    @property
    def advice(self) -> str:
        """Return the remedy with the facts filled in."""
        return self.remedy.format(**self.facts)

    @property
    def public_text(self) -> str:
        """Return what may be told to another party: the text if its facts are public, else the summary."""
        return self.text.format(**self.facts) if self.public else self.summary

    @classmethod
    def fields(cls) -> frozenset[str]:
        """Return the names of the facts that the text and the remedy need."""
        return frozenset(
            name.split(".")[0].split("[")[0]
            for template in (cls.text, cls.remedy)
            for _, name, _, _ in Formatter().parse(template)
            if name
        )


def _rebuild(kind: type[WarrenError], facts: dict[str, Any]) -> WarrenError:
    return kind(**facts)


def catalogue() -> Iterator[type[WarrenError]]:
    """Yield every concrete error class, in the order of the codes."""

    def walk(kind: type[WarrenError]) -> Iterator[type[WarrenError]]:
        for sub in kind.__subclasses__():
            yield sub
            yield from walk(sub)

    yield from sorted((kind for kind in walk(WarrenError) if kind.text), key=lambda kind: kind.code)
