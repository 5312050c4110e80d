"""Point out what a reader of a plan should look at, from its text alone.

A hint, not a proof: Python can hide what it does from any such reading, and what is not named here may still be done. What a plan can
do is bounded by the walls around its worker, see `node.sandbox`.
"""

from __future__ import annotations

import ast
import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Concern(StrEnum):
    """Why a line is pointed out."""

    IMPORTS = "imports"
    FILES = "files"
    NETWORK = "network"
    PROCESSES = "processes"
    DYNAMIC_CODE = "dynamic code"
    NATIVE_CODE = "native code"
    INTERPRETER = "interpreter"
    """Reaches around the ordinary ways of the language."""
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True)
class Remark:
    """One line that a reader should look at."""

    line: int
    concern: Concern
    name: str


_MODULES: Final = {
    Concern.FILES: "os io pathlib shutil tempfile glob fileinput mmap pickle shelve dbm sqlite3 zipfile tarfile gzip bz2 lzma",
    Concern.NETWORK: "socket ssl http urllib ftplib smtplib poplib imaplib xmlrpc asyncio requests httpx aiohttp pika"
    " webbrowser socketserver select selectors",
    Concern.PROCESSES: "subprocess multiprocessing concurrent threading _thread signal pty os posix resource",
    Concern.DYNAMIC_CODE: "importlib imp runpy code codeop types pickle marshal builtins zipimport pkgutil",
    Concern.NATIVE_CODE: "ctypes cffi _ctypes numba",
    Concern.INTERPRETER: "sys gc inspect atexit faulthandler weakref dis",
}
_NAMES: Final = {
    Concern.FILES: "open load save loadtxt savetxt genfromtxt fromfile tofile memmap read_csv read_parquet read_pickle to_csv"
    " to_pickle to_parquet scan_csv write_csv unlink rmtree rename listdir scandir read_text write_text"
    " read_bytes write_bytes load_state_dict_from_url from_file save_file load_file",
    Concern.NETWORK: "urlopen urlretrieve download from_pretrained load_state_dict_from_url create_connection",
    Concern.PROCESSES: "system popen fork forkpty spawn spawnv execv execve execvp posix_spawn kill Popen Process Thread",
    Concern.DYNAMIC_CODE: "exec eval compile __import__ import_module breakpoint input",
    Concern.NATIVE_CODE: "CDLL load_library load_inline cpp_extension PyDLL",
    Concern.INTERPRETER: "getattr setattr delattr globals locals vars environ getenv _getframe settrace setprofile",
}
_PAIRS: Final = 4_000_000
"""Above so many pairs of lines, the least difference could take minutes to find."""
_BARE: Final = frozenset({"exec", "eval", "compile", "input", "vars"})
"""Names that mean what they say only when they stand alone."""

_HIDDEN: Final = (
    "__builtins__ __class__ __bases__ __base__ __mro__ __subclasses__ __globals__ __code__ __closure__ __dict__ __loader__"
    " __spec__ __getattribute__ __reduce__ __reduce_ex__ f_globals f_locals f_back gi_frame tb_frame cr_frame"
)
_DUNDERS: Final = frozenset(_HIDDEN.split())
_OF_MODULE: Final = {
    module: tuple(concern for concern, names in _MODULES.items() if module in names.split())
    for names in _MODULES.values()
    for module in names.split()
}
_OF_NAME: Final = {
    name: tuple(concern for concern, names in _NAMES.items() if name in names.split())
    for names in _NAMES.values()
    for name in names.split()
}


def report(source: str) -> tuple[Remark, ...]:
    """Return what a reader should look at, in the order of the lines: every import, and every name that may reach outside."""
    try:
        tree = ast.parse(source)
        remarks = {remark for node in ast.walk(tree) for remark in _remarks(node)}
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return (Remark(getattr(error, "lineno", None) or 1, Concern.UNREADABLE, "it cannot be parsed"),)
    return tuple(sorted(remarks, key=lambda remark: (remark.line, remark.concern, remark.name)))


def difference(before: str, after: str, *, before_name: str, after_name: str) -> list[str]:
    """Return the lines that differ, in the unified form; nothing if none does.

    For very long sources that is all lines of the one and all of the other.
    """
    old, new = before.splitlines(), after.splitlines()
    if len(old) * len(new) <= _PAIRS or old == new:
        return list(difflib.unified_diff(old, new, before_name, after_name, lineterm="", n=3))
    head = [f"--- {before_name}", f"+++ {after_name}", f"@@ -1,{len(old)} +1,{len(new)} @@"]
    return [*head, *(f"-{line}" for line in old), *(f"+{line}" for line in new)]


def _remarks(node: ast.AST) -> Iterator[Remark]:
    match node:
        case ast.Import(names=names):
            for alias in names:
                yield from _import(node.lineno, alias.name, alias.name)
        case ast.ImportFrom(module=module, names=names):
            for alias in names:
                yield from _import(node.lineno, module or ".", f"{module or '.'}.{alias.name}")
                yield from _named(node.lineno, alias.name)
        case ast.Name(id=name):
            yield from _named(node.lineno, name)
        case ast.Attribute(attr=name) if name not in _BARE:  # model.eval() is harmless
            yield from _named(node.lineno, name)
        case ast.Constant(value=str(text)):
            if text in _DUNDERS or text in _OF_NAME or text in _OF_MODULE:
                yield Remark(node.lineno, Concern.INTERPRETER, repr(text))
        case _:
            pass


def _import(line: int, module: str, shown: str) -> Iterator[Remark]:
    yield Remark(line, Concern.IMPORTS, shown)
    for concern in _OF_MODULE.get(module.partition(".")[0], ()):
        yield Remark(line, concern, module)


def _named(line: int, name: str) -> Iterator[Remark]:
    if name in _DUNDERS:
        yield Remark(line, Concern.INTERPRETER, name)
    for concern in _OF_NAME.get(name, ()):
        yield Remark(line, concern, name)
