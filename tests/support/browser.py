"""Look at pages in a real browser: open them, say what is wrong with them, take pictures of them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Browser, Page, expect, sync_playwright

ARGUMENTS = "--no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-component-update --disable-sync"
DEADLINE_MS = 20_000
LOOKS = {"wide": {"width": 1280, "height": 800}, "phone": {"width": 390, "height": 800}}

PICTURES = os.environ.get("WARREN_SCREENSHOTS")
"""The folder for pictures of the documentation, if somebody asked for them."""
_PICTURE_BYTES = 150_000
_COLOURS = 256
_TALLEST = 1800


@contextmanager
def launched() -> Iterator[Browser]:
    """Run the system's Chromium."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.fail("Chromium is missing; `make chromium` installs it", pytrace=False)
    expect.set_options(timeout=DEADLINE_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=ARGUMENTS.split())
        yield browser
        browser.close()


def looked_at(page: Page) -> list[str]:
    """Return what is wrong with a page as it is shown, in light, in dark and on a phone; it is wide and light afterwards."""
    page.set_viewport_size(LOOKS["wide"])
    page.emulate_media(color_scheme="light")
    problems = axe(page)
    page.emulate_media(color_scheme="dark")
    problems += axe(page, runOnly=["color-contrast"])
    page.set_viewport_size(LOOKS["phone"])
    beyond = page.evaluate("document.documentElement.scrollWidth - innerWidth")
    page.set_viewport_size(LOOKS["wide"])
    page.emulate_media(color_scheme="light")
    return problems + ([f"{beyond} pixels wider than a phone"] if beyond > 0 else [])


def axe(page: Page, **options: object) -> list[str]:
    """Return what axe-core objects to, each with the first part of the page that it is about."""
    if not page.evaluate("'axe' in window"):
        page.evaluate(Axe().axe_script)
    run = "options => axe.run(options).then(found => found.violations)"
    broken = page.evaluate(run, {"resultTypes": ["violations"], **options})
    return [
        f"{one['id']}: {one['nodes'][0]['html'][:160]} {one['nodes'][0]['failureSummary'][:200]}"
        for one in broken
    ]


def pictured(page: Page, name: str, *, look: str = "wide", scheme: str = "light", whole: bool = True) -> None:
    """Keep a picture for the documentation, if somebody asked for pictures; of a page down to its end if it is not very long, or of what a window shows."""
    if not PICTURES:
        return
    path = Path(PICTURES) / f"gui-{name}.png"
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size(LOOKS[look])
    if whole:
        height = page.evaluate("document.documentElement.scrollHeight")
        page.set_viewport_size(LOOKS[look] | {"height": min(height, _TALLEST)})
    page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
    page.screenshot(path=path, animations="disabled")
    with Image.open(path) as picture:
        picture.convert("RGB").quantize(_COLOURS).save(path, optimize=True)
    assert path.stat().st_size < _PICTURE_BYTES
    page.set_viewport_size(LOOKS["wide"])
    page.emulate_media(color_scheme="light")
