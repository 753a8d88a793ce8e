"""Keys of a config that Transformers' own code reads, found in its source: those that no field of a
config class says.
"""

import ast
import inspect
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any


def asked_for(config_class: type[Any], base: type[Any]) -> set[str]:
    """Keys without a field of their own that the class asks its further arguments for; those that
    `base`, the class of all configs, asks for are left out."""
    found: set[str] = set()
    for ancestor in inspect.getmro(config_class):
        if ancestor is not base and ancestor.__module__.startswith("transformers.models."):
            found |= _asked_by(Path(inspect.getfile(ancestor)), ancestor.__name__)
    if hasattr(config_class, "rope_parameters"):
        found |= {"rope_scaling", "rope_theta", "partial_rotary_factor"}
    return found


@cache
def _asked_by(file: Path, class_name: str) -> frozenset[str]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    body = next(
        node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == class_name
    )
    return frozenset(_names_taken(body, "kwargs"))


def _names_taken(tree: ast.AST, holder: str) -> Iterator[str]:
    """The string keys that code asks a dictionary named `holder` for."""
    for node in ast.walk(tree):
        key = None
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            if node.func.attr in ("pop", "get", "setdefault") and node.args:
                key = node.args[0] if _is_name(node.func.value, holder) else None
        elif isinstance(node, ast.Subscript) and _is_name(node.value, holder):
            key = node.slice
        elif isinstance(node, ast.Compare) and _is_name(node.comparators[0], holder):
            key = node.left
        if isinstance(key, ast.Constant) and isinstance(key.value, str):
            yield key.value


def _is_name(node: ast.AST, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name


def read_by_models(config_class: type[Any], base: type[Any]) -> frozenset[str]:
    """Keys that the family's models read from a config though they may have no field; those that
    `base`, the class of all configs, has are left out."""
    folder = Path(inspect.getfile(config_class)).parent
    taken = {name for file in sorted(folder.glob("modeling_*.py")) for name in _attributes(file)}
    return frozenset(name for name in taken if not hasattr(base, name) and name[0] != "_")


@cache
def _attributes(file: Path) -> frozenset[str]:
    """The keys that code reads as `getattr(config, "key", default)`."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if (
            isinstance(node, ast.Call)
            and _is_name(node.func, "getattr")
            and len(node.args) == 3
            and ast.unparse(node.args[0]) in ("config", "self.config")
            and isinstance(node.args[1], ast.Constant)
        ):
            found.add(str(node.args[1].value))
    return frozenset(found)
