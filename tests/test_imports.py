"""Who imports whom: the rules of the house, read from the source of every file.

Imports inside functions and under TYPE_CHECKING count like any other.
"""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

MAY_IMPORT = {
    "cli": {"report", "dse", "passes", "backend", "frontend", "ir"},
    "dse": {"passes", "backend", "frontend", "ir"},
    "report": {"ir"},
    "passes": {"backend", "ir"},
    "backend": {"ir"},
    "frontend": {"ir"},
    "ir": set(),
    "specs": set(),
    "": {"cli"},
}
"""By folder of the package, its root being ''; a folder may always import itself."""

HEAVY = (
    *("torch", "transformers", "botorch", "ortools", "numpy", "networkx", "lark", "numba"),
    *("pint", "rich", "sqlalchemy", "matplotlib", "pymoo", "ray", "optuna", "pyarrow"),
)

EXTRAS = ("optuna", "parquet", "postgresql", "ray")
"""What the package imports only where a user asks for it, and says how to install."""

WHERE_NEEDED = (
    *("torch", "transformers", "botorch", "gpytorch", "ortools", "matplotlib", "pymoo"),
    *("ray", "optuna", "pyarrow", "psycopg"),
)
"""Never imported by the search as a whole, only inside the functions and modules that need them."""

MADE_WHEN_ASKED = ("dse/strategies", "dse/engines/ray.py")
"""Modules of the search that are imported by name when they are asked for."""


def sources(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def package_files() -> list[Path]:
    return [*ROOT.glob("*.py"), *sources(*(folder for folder in MAY_IMPORT if folder))]


def folder_of(path: Path) -> str:
    parts = path.relative_to(ROOT).parts
    return parts[0] if len(parts) > 1 else ""


def absolute_imports(path: Path) -> Iterator[tuple[str, int]]:
    """Top-level names that a file imports absolutely, with the line."""
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            yield from ((alias.name.partition(".")[0], node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield (node.module or "").partition(".")[0], node.lineno


def relative_imports(path: Path) -> Iterator[tuple[Path, int]]:
    """What a file imports relatively, as paths without suffix, with the line."""
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = path.parents[node.level - 1]
            if node.module is not None:
                yield base.joinpath(*node.module.split(".")), node.lineno
            else:
                yield from ((base / alias.name, node.lineno) for alias in node.names)


def imported_folder(target: Path) -> str:
    """The folder of the package that an imported module or name lies in."""
    assert target.is_relative_to(ROOT), target
    first = target.relative_to(ROOT).parts[:1]
    return first[0] if first and (ROOT / first[0]).is_dir() else ""


def declared(*extras: str) -> set[str]:
    requirements = list(PROJECT["dependencies"])
    for extra in extras:
        requirements += PROJECT["optional-dependencies"][extra]
    names = (re.split(r"[\[<>=]", requirement)[0].strip() for requirement in requirements)
    return {name.replace("-", "_") for name in names}


def shown(path: Path, line: int, what: str) -> str:
    return f"{path.relative_to(ROOT)}:{line} {what}"


def test_every_folder_imports_only_what_it_may_know() -> None:
    broken = [
        shown(path, line, f"imports {imported_folder(target) or 'the root'}")
        for path in package_files()
        for target, line in relative_imports(path)
        if not may_import(folder_of(path), target)
    ]
    assert broken == []


def may_import(folder: str, target: Path) -> bool:
    wanted = imported_folder(target)
    if wanted == "":
        # The version is the root's; nothing else of it is.
        return target in (ROOT, ROOT / "__version__") and folder in ("cli", "")
    return wanted == folder or wanted in MAY_IMPORT[folder]


def test_the_package_imports_itself_relatively() -> None:
    broken = [
        shown(path, line, f"imports {name}")
        for path in package_files()
        for name, line in absolute_imports(path)
        if name == "wscc"
    ]
    assert broken == []


def test_every_folder_of_the_package_is_installed() -> None:
    listed = set(
        tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    )
    found = {
        ".".join(("wscc", *path.parent.relative_to(ROOT).parts))
        for path in package_files()
        if path.name == "__init__.py"
    }
    assert found == listed


def test_nothing_is_imported_that_is_not_declared() -> None:
    known = declared(*EXTRAS) | set(sys.stdlib_module_names)
    broken = [
        shown(path, line, f"imports {name}")
        for path in package_files()
        for name, line in absolute_imports(path)
        if name not in known
    ]
    assert broken == []


def test_what_is_heavy_is_imported_where_it_is_needed() -> None:
    files = [*sources("dse", "cli/dse"), *ROOT.glob("report/study_*.py")]
    broken = [
        shown(path, node.lineno, f"imports {name} at the top")
        for path in files
        if not path.relative_to(ROOT).as_posix().startswith(MADE_WHEN_ASKED)
        for node in ast.parse(path.read_text(), str(path)).body
        for name in top_names(node)
        if name in WHERE_NEEDED
    ]
    assert broken == []


def top_names(node: ast.stmt) -> list[str]:
    """The top-level packages that a statement imports absolutely."""
    if isinstance(node, ast.Import):
        return [alias.name.partition(".")[0] for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.level == 0:
        return [(node.module or "").partition(".")[0]]
    return []


def scripts_beside(path: Path) -> set[str]:
    """What a benchmark or an example, which are run as scripts, may import of their own folder."""
    return (
        {other.stem for other in path.parent.glob("*.py")}
        if folder_of(path) in ("benchmarks", "examples")
        else set()
    )


def test_tests_and_examples_import_only_wscc_and_what_is_declared() -> None:
    known = declared("dev") | set(sys.stdlib_module_names) | {"wscc"}
    files = sources("tests", "examples", "benchmarks")
    broken = [
        shown(path, line, f"imports {name}")
        for path in files
        for name, line in absolute_imports(path)
        if name not in known | scripts_beside(path)
    ]
    broken += [
        shown(path, line, "imports relatively")
        for path in files
        for _, line in relative_imports(path)
    ]
    assert broken == []


@pytest.mark.parametrize(
    "code",
    [
        "import wscc",
        "from wscc.cli.main import main; main(['--help'])",
        "from wscc.cli.main import main; main(['--hw', 'x', '--model', 'y', '--batch', '0'])",
        "from wscc.cli.main import main; main(['cache', '--json'])",
        "from wscc.cli.dse.main import main; main(['--help'])",
        "from wscc.cli.dse.main import main; main(['export', 'study'])",
    ],
)
def test_light_commands_import_nothing_heavy(code: str) -> None:
    report = f"import sys; {code}; print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", report], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"
