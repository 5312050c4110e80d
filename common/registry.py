"""Turn the settings objects of a kind, strategies for instance, into plain configurations and back."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, Generic, TypeVar

from common.errors import InvalidSettingsError

T = TypeVar("T")


class Registry(Generic[T]):
    """The classes of one kind that can be named in a ledger or in an experiment file; each is a dataclass."""

    def __init__(self, kind: str, classes: Iterable[type[T]]) -> None:
        self._kind = kind
        self._classes = {cls.__name__: cls for cls in classes}

    def config(self, item: T) -> dict[str, Any]:
        """Return the name of the item's class and, of a dataclass, its settings."""
        settings: Any = item if dataclasses.is_dataclass(item) else None
        return {"name": type(item).__name__, **(dataclasses.asdict(settings) if settings else {})}

    def build(self, config: Mapping[str, Any]) -> T:
        """Return the item that a configuration describes.

        Raises:
            InvalidSettingsError: If no such class is known here, or a setting is wrong.
        """
        settings = dict(config)
        name = settings.pop("name", None)
        if name not in self._classes:
            known = ", ".join(sorted(self._classes))
            raise InvalidSettingsError(
                source=self._kind, problems=f"  name: {name!r} is not one of {known}; pass the object itself"
            )
        try:
            return self._classes[name](**settings)
        except TypeError as error:
            raise InvalidSettingsError(source=f"{self._kind} {name}", problems=f"  {error}") from error
