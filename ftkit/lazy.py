"""Imports that wait until they are needed, so that a part without torch can be imported alone."""

import ast
import inspect
import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

__all__ = ["import_after", "load_names_lazily"]


class _LazyPackage(ModuleType):
    @cached_property
    def _modules(self) -> dict[str, str]:
        """The module of each name that the package imports under ``if TYPE_CHECKING``."""
        guards = [node for node in ast.parse(inspect.getsource(self)).body if isinstance(node, ast.If)]
        imports = [node for guard in guards for node in guard.body if isinstance(node, ast.ImportFrom)]
        return {alias.name: str(node.module) for node in imports for alias in node.names}

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name not in self._modules:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}", name=name, obj=self)
        value = getattr(import_module(self._modules[name]), name)
        self.__dict__[name] = value
        return value

    def __setattr__(self, name: str, value: Any) -> None:
        # Python sets each imported module on its package, where a function such as ``copying`` may have that name.
        if not (isinstance(value, ModuleType) and name in self._modules):
            super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self._modules})


def load_names_lazily(package: str) -> None:
    """Load each name that a package imports under ``if TYPE_CHECKING`` when it is first used.

    Type checkers and the reference read the imports as they are.

    Args:
        package: The package's ``__name__``; its ``__init__`` calls this function after the imports.
    """
    sys.modules[package].__class__ = _LazyPackage


class _ImportAfter(MetaPathFinder, Loader):
    """Finds one module as Python would, and imports another one after it."""

    def __init__(self, first: str, second: str) -> None:
        self._first, self._second = first, second
        self._loader: Loader | None = None

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path, target) if name == self._first else None
        if spec is None or spec.loader is None:
            return None
        sys.meta_path.remove(self)
        self._loader, spec.loader = spec.loader, self
        return spec

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        assert self._loader is not None  # find_spec has set it
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        assert self._loader is not None
        assert module.__spec__ is not None
        module.__loader__ = module.__spec__.loader = self._loader  # tracebacks read the source through it
        self._loader.exec_module(module)
        with suppress(ImportError):  # it must not break the import of another library
            import_module(self._second)


def import_after(first: str, second: str) -> None:
    """Import a module as soon as another one has been imported; at once where it has been already.

    Args:
        first: The module that somebody else imports.
        second: The module that is imported after it.
    """
    if first in sys.modules:
        import_module(second)
    elif not any(isinstance(finder, _ImportAfter) for finder in sys.meta_path):
        sys.meta_path.insert(0, _ImportAfter(first, second))
