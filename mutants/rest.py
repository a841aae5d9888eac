"""Mutants of what mutmut leaves alone: constants of a module, defaults of its classes, and properties.

An integer one larger, a word with letters around it, another operator, `or` for `and`, nothing for what is returned.
Each by the place of a node in the source, so that the rest of the file stays as it is.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from mutant import SECONDS, Mutant

OTHER = {ast.Pow: "*", ast.Mult: "+", ast.Add: "-", ast.Sub: "+", ast.FloorDiv: "*", ast.Mod: "//"}
Change = tuple[ast.expr, str, str]  # the node, what stands there instead, and where: a function or ""


def of_modules(tree: Path, modules: Sequence[str], tests: Sequence[str], env: dict[str, str]) -> list[Mutant]:
    """Each mutant of these modules in a copy of the repository, and what became of it.

    SystemExit when a test fails on the copy as it is: nothing would be shown by a failure then.
    """
    if _status(tree, tests, env) != "survived":
        raise SystemExit("a test fails without any mutant")
    return [mutant for module in modules for mutant in _of_module(tree, module, tests, env)]


def _of_module(tree: Path, module: str, tests: Sequence[str], env: dict[str, str]) -> Iterator[Mutant]:
    path = tree / "src" / "allocator" / f"{module}.py"
    source = path.read_text(encoding="utf-8")
    for node, new, function in changes(ast.parse(source)):
        mutated = replaced(source, node, new)
        path.write_text(mutated, encoding="utf-8")
        status = _status(tree, tests, env)
        line = node.lineno - 1
        yield Mutant(
            module=module,
            function=function,
            status=status,
            before=source.splitlines()[line].strip(),
            after=mutated.splitlines()[line].strip(),
            made_by="rest",
        )
    path.write_text(source, encoding="utf-8")


def _status(tree: Path, tests: Sequence[str], env: dict[str, str]) -> str:
    """File after file, up to the first that fails: a mutant is mostly found by the first."""
    for test in tests:
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-x",
            "-q",
            "-n0",
            "-p",
            "no:cacheprovider",
            f"--timeout={SECONDS}",
            test,
        ]
        if subprocess.run(command, cwd=tree, env=env, check=False, capture_output=True).returncode:
            return "killed"
    return "survived"


def replaced(source: str, node: ast.expr, new: str) -> str:
    """The source with another text in the place of a node of one line."""
    lines = source.splitlines(keepends=True)
    assert node.lineno == node.end_lineno and node.end_col_offset is not None
    line = lines[node.lineno - 1].encode("utf-8")
    changed = line[: node.col_offset] + new.encode("utf-8") + line[node.end_col_offset :]
    return "".join([*lines[: node.lineno - 1], changed.decode("utf-8"), *lines[node.lineno :]])


def changes(tree: ast.Module) -> Iterator[Change]:
    """Every change to a module."""
    for statement in tree.body:
        if isinstance(statement, ast.Assign | ast.AnnAssign) and statement.value:
            yield from ((node, new, "") for node, new in _of_value(statement.value))
        elif isinstance(statement, ast.ClassDef):
            yield from _of_class(statement)


def _of_class(given: ast.ClassDef) -> Iterator[Change]:
    for statement in given.body:
        if isinstance(statement, ast.AnnAssign) and statement.value:
            where = f"{given.name}.{ast.unparse(statement.target)}"
            yield from ((node, new, where) for node, new in _of_value(statement.value))
        elif isinstance(statement, ast.FunctionDef) and _is_property(statement):
            for inner in ast.walk(statement):
                if isinstance(inner, ast.Return) and inner.value:
                    yield inner.value, "None", f"{given.name}.{statement.name}"
                    yield from ((n, new, f"{given.name}.{statement.name}") for n, new in _of_value(inner.value))


def _is_property(function: ast.FunctionDef) -> bool:
    return any(isinstance(mark, ast.Name) and mark.id == "property" for mark in function.decorator_list)


def _of_value(value: ast.expr) -> Iterator[tuple[ast.expr, str]]:
    for node in ast.walk(value):
        if isinstance(node, ast.Constant):
            if isinstance(node.value, int):
                yield node, str(node.value + 1)
            elif isinstance(node.value, str):
                yield node, repr(f"XX{node.value}XX")
            elif node.value is None:
                yield node, "1"
        elif isinstance(node, ast.BinOp) and type(node.op) in OTHER:
            yield node, f"{ast.unparse(node.left)} {OTHER[type(node.op)]} {ast.unparse(node.right)}"
        elif isinstance(node, ast.BoolOp):
            other = " and " if isinstance(node.op, ast.Or) else " or "
            yield node, other.join(ast.unparse(part) for part in node.values)
        elif isinstance(node, ast.Tuple) and not node.elts:
            yield node, "('limit',)"
