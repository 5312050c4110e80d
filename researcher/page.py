"""Show rich's views, tables above all, in a notebook: as HTML that loads nothing and runs nothing."""

from __future__ import annotations

import io
from typing import Any, Final

from rich.console import Console, RenderableType

_WIDTH: Final = 120
_FORMAT: Final = '<pre style="white-space: pre; overflow-x: auto; line-height: normal">{code}</pre>'


def html_of(view: RenderableType) -> str:
    """Return a view as HTML; all text in it is escaped, and styles stand in the elements."""
    console = Console(
        record=True,
        file=io.StringIO(),
        width=_WIDTH,
        highlight=False,
        force_terminal=True,
        force_jupyter=False,
        color_system="truecolor",
    )
    console.print(view)
    return console.export_html(code_format=_FORMAT, inline_styles=True)


class Sheet:
    """One output of a notebook's cell that is written anew in place; has what a `rich.live.Live` has."""

    def __init__(self) -> None:
        """Use the notebook that this process is the kernel of."""
        from IPython.display import display  # only a notebook has it

        self._display: Any = display
        self._handle: Any = None

    def start(self) -> None:
        """Take a place in the output of the cell."""
        self._handle = self._display(_data(""), raw=True, display_id=True)

    def update(self, view: RenderableType, *, refresh: bool = True) -> None:  # noqa: ARG002 - as Live has it
        """Show a view in place of the last one."""
        self._handle.update(_data(view), raw=True)

    def stop(self) -> None:
        """Leave the last view where it is."""


def _data(view: RenderableType) -> dict[str, str]:
    """Return a view for notebooks, and for what shows text only."""
    text = io.StringIO()
    Console(file=text, width=_WIDTH, color_system=None, force_jupyter=False, highlight=False).print(view)
    return {"text/html": html_of(view), "text/plain": text.getvalue()}
