"""Builds the wheel: its packages lie below ``facet``, so that no ``db`` or ``models`` gets into others' environments.

In the repository, and in an editable installation, they are packages of the top level, imported as ``db`` and so on. A
wheel has them as ``facet.db`` and so on, and its imports are rewritten to these names. Everything else is declared in
pyproject.toml.
"""

from __future__ import annotations

import ast
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py
from setuptools.command.editable_wheel import editable_wheel

PUBLIC = "facet"
BELOW = ("db", "models", "training", "worker")


class BuildBelowFacet(build_py):
    """Copies modules into the wheel, with the imports that they need there."""

    def build_module(self, module: str, module_file: str, package: str) -> tuple[str, bool]:
        """Copy one module and rewrite its imports."""
        target, copied = super().build_module(module, module_file, package)
        path = Path(target)
        path.write_text(rewritten(path.read_text(encoding="utf-8"), module_file), encoding="utf-8")
        return target, copied


class EditableAsIs(editable_wheel):
    """Installs the packages where they lie in the repository, under their names there."""

    def run(self) -> None:
        """Forget the places in the wheel."""
        self.distribution.packages = [PUBLIC, *BELOW]
        self.distribution.package_dir = {}
        self.distribution.package_data = {}
        super().run()


def rewritten(source: str, name: str) -> str:
    """Return a module whose absolute imports of our packages begin with ``facet.``.

    Raises:
        ValueError: it imports one of them without ``from``, which would have to be rewritten wherever it is used.
    """
    lines = source.splitlines(keepends=True)
    for node in ast.walk(ast.parse(source, name)):
        if isinstance(node, ast.Import):
            whole = [alias.name for alias in node.names if alias.name.partition(".")[0] in BELOW]
            if whole:
                raise ValueError(f"{name}:{node.lineno} has `import {whole[0]}`; write `from ... import ...`")
        elif isinstance(node, ast.ImportFrom) and not node.level and (node.module or "").partition(".")[0] in BELOW:
            line = lines[node.lineno - 1]
            lines[node.lineno - 1] = line.replace(f"from {node.module}", f"from {PUBLIC}.{node.module}", 1)
    return "".join(lines)


def places() -> dict[str, str]:
    """Return the folders of all packages of the wheel, relative to the repository."""
    found = {PUBLIC: PUBLIC}
    for top in BELOW:
        for name in (top, *(f"{top}.{package}" for package in find_packages(top))):
            found[f"{PUBLIC}.{name}"] = name.replace(".", "/")
    return found


setup(
    packages=list(places()),
    package_dir=places(),
    package_data={
        PUBLIC: ["py.typed"],
        f"{PUBLIC}.db": ["schema/*.sql", "reader/*.sql", "migrations/*.mako", "py.typed"],
        f"{PUBLIC}.models": ["releases/**/*", "py.typed"],
        f"{PUBLIC}.training": ["py.typed"],
        f"{PUBLIC}.worker": ["pictures/fonts/*.t*", "py.typed", "web/static/*", "web/templates/**/*"],
    },
    cmdclass={"build_py": BuildBelowFacet, "editable_wheel": EditableAsIs},
)
