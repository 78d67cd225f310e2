"""Packages that load a public name when it is first used, so that a part without torch can be imported alone."""

import ast
import inspect
import sys
from functools import cached_property
from importlib import import_module
from types import ModuleType
from typing import Any

__all__ = ["load_names_lazily"]


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
