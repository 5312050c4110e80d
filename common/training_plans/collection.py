"""Collect what a class needs from the file or notebook around it, as text."""

from __future__ import annotations
import __future__

import ast
import builtins
import inspect
import linecache
import math
import symtable
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any, Final, NoReturn

from common.errors import PlanSourceError

_SCALARS: Final = (bool, int, str, bytes, type(None))
_DEFINITIONS: Final = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
_INSTALLED: Final = {"site-packages", "dist-packages"}
_RUN_AT_ONCE: Final = {"listcomp", "genexpr", "dictcomp", "setcomp", "lambda"}
"""Scopes inside a class body or a default that may run while the definition itself is being made."""


def collect(plan: type) -> str:
    """Return the text of a class with everything that it needs, in an order in which it runs.

    Raises:
        PlanSourceError: If something cannot be written down; names it.
    """
    return _Collector(plan).text()


@dataclass(frozen=True, slots=True)
class _Names:
    """Global names that a text uses, sorted.

    Attributes:
        at_once: Needed when the definition is made: bases, decorators, defaults, annotations, class bodies.
        later: Needed when its functions run.
    """

    at_once: tuple[str, ...]
    later: tuple[str, ...]


class _Collector:
    def __init__(self, plan: type) -> None:
        self._plan = plan
        self._namespace = _namespace(plan)
        self._imports: set[str] = set()
        self._constants: dict[str, str] = {}
        self._definitions: list[str] = []
        self._seen: set[str] = set()
        self._dependencies, self._provided = self._given()

    def text(self) -> str:
        """Return the whole source."""
        self._define(self._plan.__name__, self._plan)
        future = ["from __future__ import annotations"] if self._future else []
        imports = sorted(
            self._imports - set(self._dependencies), key=lambda line: (line.startswith("from"), line)
        )
        head = "\n".join([*future, *self._dependencies, *imports])
        constants = "\n".join(f"{name} = {value}" for name, value in sorted(self._constants.items()))
        blocks = [block for block in (head, constants) if block]
        return "\n\n\n".join(["\n\n".join(blocks), *self._definitions] if blocks else self._definitions)

    @property
    def _future(self) -> bool:
        return self._namespace.get("annotations") is __future__.annotations

    def _given(self) -> tuple[list[str], set[str]]:
        """Return the lines of `init_dependencies` and the names that they bind."""
        lines: list[str] = []
        names: set[str] = set()
        for given in self._plan().init_dependencies():
            try:
                statements = ast.parse(given).body
            except (SyntaxError, TypeError, ValueError) as error:
                raise PlanSourceError(
                    plan=self._plan.__name__, reason=f"init_dependencies gives {given!r}, which is no import"
                ) from error
            for statement in statements:
                if not isinstance(statement, ast.Import | ast.ImportFrom) or any(
                    alias.name == "*" for alias in statement.names
                ):
                    self._refuse(f"init_dependencies gives {given!r}, which is not an import of named things")
                names |= {alias.asname or alias.name.partition(".")[0] for alias in statement.names}
                lines.append(str(ast.get_source_segment(given, statement)))
        return lines, names

    def _need(self, name: str, tree: ast.Module) -> None:
        """Provide a global name that a definition uses."""
        if name in self._seen or name in self._provided or (name.startswith("__") and name.endswith("__")):
            return
        if name not in self._namespace:
            if hasattr(builtins, name):
                return
            self._refuse(f"the name {name!r} is not defined")
        value = self._namespace[name]
        if isinstance(value, ModuleType):
            self._import_module(name, value, tree)  # each definition may use other parts of it
            return
        self._seen.add(name)
        if getattr(value, "__module__", None) == self._plan.__module__ and hasattr(value, "__qualname__"):
            self._define(name, value)
        elif (literal := _literal(value)) is not None:
            self._constants[name] = literal
        else:
            self._import_object(name, value)

    def _define(self, name: str, value: Any) -> None:
        self._seen.add(name)
        if value.__qualname__ != name:
            self._refuse(f"{name!r} is another name of {value.__qualname__}, or is made inside a function")
        text = _text_of(name, value, self._namespace)
        if text is None:
            self._refuse(f"the text of {name!r} cannot be found")
        tree = ast.parse(text)
        names = _names_in(text, future=self._future)
        for needed in names.at_once:
            self._need(needed, tree)
        self._definitions.append(text)
        for needed in names.later:
            self._need(needed, tree)

    def _import_module(self, name: str, module: ModuleType, tree: ast.Module) -> None:
        self._check_library(name, module.__name__)
        if name != module.__name__:
            parent, _, last = module.__name__.rpartition(".")
            self._imports.add(
                f"from {parent} import {last}"
                if parent and last == name
                else f"import {module.__name__} as {name}"
            )
            return
        self._imports |= {f"import {path}" for path in _submodules(name, module, tree)} or {f"import {name}"}

    def _import_object(self, name: str, value: Any) -> None:
        found = _home(name, value, own=self._plan.__module__)
        if found is None:
            self._refuse(
                f"{name!r} is a {type(value).__name__}, which cannot be written as text; make it inside the plan, or import it"
                " in init_dependencies"
            )
        module, known_as = found
        self._check_library(name, module)
        self._imports.add(f"from {module} import {known_as}" + (f" as {name}" if known_as != name else ""))

    def _check_library(self, name: str, module: str) -> None:
        top = module.partition(".")[0]
        if top in sys.stdlib_module_names or top == __name__.partition(".")[0]:
            return
        file = getattr(sys.modules.get(module), "__file__", None)
        if file is None or _INSTALLED.isdisjoint(Path(file).parts):
            self._refuse(
                f"{name!r} comes from {module}, which is no installed library; put it into the same file"
            )

    def _refuse(self, reason: str) -> NoReturn:
        raise PlanSourceError(plan=self._plan.__name__, reason=reason)


def _namespace(plan: type) -> dict[str, Any]:
    """Return the globals that a class sees; in a notebook or a script run as a module they hang on its functions only."""
    for function in _functions(plan):
        return function.__globals__
    return vars(sys.modules[plan.__module__])


def _functions(value: Any) -> Iterator[FunctionType]:
    """Yield the functions written in the body of a class, or the function itself."""
    members = vars(value).values() if isinstance(value, type) else [value]
    for member in members:
        function = getattr(member, "__func__", getattr(member, "fget", member))
        function = inspect.unwrap(function) if callable(function) else function
        if isinstance(function, FunctionType) and function.__module__ == value.__module__:
            yield function


def _text_of(name: str, value: Any, namespace: dict[str, Any]) -> str | None:
    """Return the lines of the definition at the top of a file that made a value."""
    files = [function.__code__.co_filename for function in _functions(value)]
    for file in dict.fromkeys([*files, namespace.get("__file__")]):
        if file is None:
            continue
        linecache.checkcache(file)
        lines = linecache.getlines(file, namespace)
        nodes = [node for node in _statements(lines) if isinstance(node, _DEFINITIONS) and node.name == name]
        if nodes:
            node = nodes[-1]
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            return "".join(lines[first - 1 : node.end_lineno]).rstrip()
    return None


def _statements(lines: list[str]) -> list[ast.stmt]:
    try:
        return ast.parse("".join(lines)).body
    except SyntaxError:  # what is there now is not what the class was made from
        return []


def _names_in(text: str, *, future: bool) -> _Names:
    """Return the global names that a definition uses."""
    prefix = "from __future__ import annotations\n" if future else ""
    at_once: set[str] = set()
    later: set[str] = set()

    def walk(table: symtable.SymbolTable, into: set[str]) -> None:
        top = table.get_type() == "module"
        into |= {
            symbol.get_name()
            for symbol in table.get_symbols()
            if symbol.is_referenced() and (top or symbol.is_global())
        }
        for child in table.get_children():
            deferred = child.get_type() == "function" and child.get_name() not in _RUN_AT_ONCE
            walk(child, later if deferred else into)

    walk(symtable.symtable(prefix + text, "<plan>", "exec"), at_once)
    return _Names(tuple(sorted(at_once)), tuple(sorted(later)))


def _submodules(name: str, module: ModuleType, tree: ast.Module) -> set[str]:
    """Return the parts of a package that a text reaches through its name, `torch.nn` for instance."""
    found = set()
    for node in ast.walk(tree):
        parts: list[str] = []
        root = node
        while isinstance(root, ast.Attribute):
            parts.insert(0, root.attr)
            root = root.value
        if not (parts and isinstance(root, ast.Name) and root.id == name):
            continue
        path, here = name, module
        for part in parts:
            below = vars(here).get(part)
            if not isinstance(below, ModuleType) or below.__name__ != f"{path}.{part}":
                break
            path, here = below.__name__, below
        found.add(path)
    return found


def _home(name: str, value: Any, *, own: str) -> tuple[str, str] | None:
    """Return the shortest module other than the plan's own that offers a value, and under which name."""
    known_as = (name, getattr(value, "__name__", name))
    for home in (getattr(value, "__module__", None), type(value).__module__):
        parts = home.split(".") if isinstance(home, str) and home != own else []
        for end in range(1, len(parts) + 1):
            module = ".".join(parts[:end])
            offered = vars(sys.modules[module]) if module in sys.modules else {}
            for candidate in known_as:
                if offered.get(candidate) is value:
                    return module, candidate
    return None


def _literal(value: Any) -> str | None:
    """Return the text of a plain constant, or none if a value is not one."""
    if type(value) in _SCALARS or (type(value) is float and math.isfinite(value)):
        return repr(value)
    if type(value) in (list, tuple):
        items = [_literal(item) for item in value]
        return None if None in items else repr(value)
    if type(value) is dict:
        items = [_literal(item) for pair in value.items() for item in pair]
        return None if None in items else repr(value)
    return None
