"""Imports point downwards, and the modules that decide touch neither disk, clock nor entropy."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

import allocator

PACKAGE = Path(allocator.__file__).parent
# one total order: a module imports only from those named before it
PURE = [
    "errors",
    "canonical",
    "text",
    "finding",
    "criterion",
    "study",
    "plot_style",
    "keystream",
    "method",
    "permuted_block",
    "complete",
    "random_allocation_rule",
    "big_stick",
    "biased_coin",
    "chen",
    "urn",
    "truncated_binomial",
    "maximal_procedure",
    "block_urn",
    "imported_list",
    "methods",
    "method_words",
    "design",
    "states",
    "assess",
    "transitions",
    "simulate",
    "t_test",
    "design_report",
    "assess_words",
    "name_places",
    "toml_files",
    "answers_form",
    "eligibility",
    "example_answers",
    "boundary",
    "registry_record",
    "design_check",
    "protocol_check",
    "schedule",
    "block_ledger",
    "list_fault",
    "merkle",
    "sealing",
    "packed_schedule",
    "envelope",
    "person",
    "record_form",
    "log",
    "chain",
    "allocation",
    "store",
    "remembered",
    "memory_store",
    "history",
    "case",
    "recovery",
    "relocation",
    "checkpoint",
    "receipt",
    "seed",
    "sealed_design",
    "log_facts",
    "sequence_words",
    "consort",
    "statements",
    "balance",
    "balance_words",
    "list_words",
    "kind_rules",
    "rules",
    "export",
    "verdict",
    "first_findings",
    "trail",
    "import_faults",
    "list_layout",
    "list_table",
    "list_file",
    "anchors",
    "replay",
    "verify",
]
HELD_TOGETHER = [
    *("home", "sqlite_store", "scratch_store", "postgres_address", "postgres_connection", "known_servers"),
    *("postgres_batch", "postgres_statements", "postgres_queries", "postgres_pool", "postgres_store", "stores", "keys"),
    *(
        "sqlite_evidence",
        "postgres_evidence",
        "log_copy",
        "database_copy",
        "evidence",
        "export_evidence",
        "study_copy",
        "backup",
        "writer",
        "session",
    ),
    *("setup", "continuity", "publishing", "listing", "exporting", "receipt_pdf"),
    *("assess_plot", "balance_plot", "balance_page", "confirming", "service"),
    *("transit", "log_end", "departure", "moving"),
    *("opening", "newer_log", "restoring", "qualification", "database_check", "self_test", "cli", "__main__"),
]
ORDER = [*PURE, *HELD_TOGETHER]
IMPURE = {
    *("os", "sys", "io", "sqlite3", "time", "random", "secrets", "pathlib", "tempfile", "shutil", "glob", "uuid"),
    *("fcntl", "socket", "subprocess", "multiprocessing", "threading", "concurrent", "asyncio", "urllib", "http"),
}
TELLING_TIME = {"now", "today", "utcnow", "urandom", "token_bytes", "getrandbits"}


def module_name(path: Path) -> str:
    """The layer of a file: its own name, or that of its folder."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


FILES = {path: module_name(path) for path in sorted(PACKAGE.rglob("*.py")) if path != PACKAGE / "__init__.py"}


@cache
def imports(path: Path) -> list[tuple[str, int]]:
    """Dotted names of everything a file imports, wherever it stands, with the line."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}:{node.lineno} a relative import"
            found += [(f"{node.module}.{alias.name}", node.lineno) for alias in node.names]
    return found


def own_modules(path: Path) -> list[tuple[str, int]]:
    """Our own modules that a file imports, by layer."""
    dotted = [(name.split("."), line) for name, line in imports(path)]
    names = [(parts[1], line) for parts, line in dotted if parts[0] == "allocator" and len(parts) > 1]
    return [(name, line) for name, line in names if name in set(FILES.values())]


def test_every_module_has_its_place_and_every_place_a_module() -> None:
    assert set(FILES.values()) == set(ORDER)
    assert len(set(ORDER)) == len(ORDER)


@pytest.mark.parametrize("path", FILES, ids=str)
def test_imports_point_downwards(path: Path) -> None:
    layer = FILES[path]
    for name, line in own_modules(path):
        inside = layer == "cli" and name == "cli"
        assert inside or ORDER.index(name) < ORDER.index(layer), (
            f"{path.name}:{line} imports {name}, which is not below"
        )


@pytest.mark.parametrize("path", [path for path, layer in FILES.items() if layer in PURE], ids=str)
def test_pure_modules_import_nothing_of_the_machine(path: Path) -> None:
    for name, line in imports(path):
        assert name.split(".")[0] not in IMPURE, f"{path.name}:{line} imports {name}"


@pytest.mark.parametrize("path", [path for path, layer in FILES.items() if layer in PURE], ids=str)
def test_pure_modules_ask_no_clock_draw_nothing_and_open_no_file(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute):
            assert node.attr not in TELLING_TIME, f"{path.name}:{node.lineno} {node.attr}"
        elif isinstance(node, ast.Name):
            assert node.id not in {"open", "print", "input", "exec", "eval", "__import__"}, f"{path.name}:{node.lineno}"
        assert not isinstance(node, ast.Global), f"{path.name}: a global that changes"


@pytest.mark.requirement("C01")
def test_nothing_that_decides_a_position_can_receive_an_arm() -> None:
    text = (PACKAGE / "allocation.py").read_text(encoding="utf-8")
    names = {node.id for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Name)}
    arguments = {node.arg for node in ast.walk(ast.parse(text)) if isinstance(node, ast.arg)}
    assert not {"arm", "arms", "schedule", "sealed", "open_entry"} & (names | arguments)
    assert not {name for name, _ in own_modules(PACKAGE / "allocation.py")} & {"schedule", "sealing", "permuted_block"}


@pytest.mark.requirement("C01")
def test_only_these_modules_touch_the_secret_list() -> None:
    users = {FILES[path] for path in FILES for name, _ in imports(path) if name.startswith("allocator.schedule")}
    assert users == {"sealing", "setup", "seed", "listing", "list_fault", "balance"}


@pytest.mark.requirement("G02")
def test_no_random_number_of_a_library_enters_a_list() -> None:
    for path in FILES:
        assert not {name.split(".")[0] for name, _ in imports(path)} & {"random"}, path.name
        assert "np.random" not in path.read_text(encoding="utf-8"), path.name


@pytest.mark.requirement("L04")
def test_no_statement_of_ours_changes_or_removes_a_record() -> None:
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                text = node.value.upper()
                assert not any(f"{word} RECORD" in text for word in ("UPDATE", "DELETE FROM", "DROP TABLE")), path.name
