"""The package against the test vectors of docs/spec.md (tests/vectors/README.md)."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from allocator.canonical import CanonicalError, canonical_bytes, parse_canonical
from allocator.log import parse_record
from allocator.person import check_signature

VECTORS = Path(__file__).parent / "vectors"


def _load_make() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_vectors", VECTORS / "make.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


MAKE = _load_make()


def vectors(name: str) -> Any:
    return json.loads((VECTORS / f"{name}.json").read_bytes())


@pytest.mark.requirement("G01")
@pytest.mark.requirement("G02")
@pytest.mark.parametrize("name", sorted(MAKE.MAKERS))
def test_package_makes_the_same_vectors(name: str) -> None:
    """Changed vectors are changed bytes: lists and logs made before would no longer verify."""
    assert MAKE.made(name) == (VECTORS / f"{name}.json").read_bytes()


def test_every_file_has_its_maker_and_its_line_in_the_readme() -> None:
    names = {path.stem for path in VECTORS.glob("*.json")}
    assert names == set(MAKE.MAKERS)
    readme = (VECTORS / "README.md").read_text(encoding="utf-8")
    assert all(f"| {name}.json |" in readme for name in names)


def test_make_overwrites_nothing_silently(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MAKE, "HERE", tmp_path)
    monkeypatch.setattr(MAKE, "MAKERS", {"design": MAKE.designs})
    assert MAKE.main([]) == 0
    good = (tmp_path / "design.json").read_bytes()
    (tmp_path / "design.json").write_bytes(b"{}")
    assert MAKE.main([]) == 1
    assert (tmp_path / "design.json").read_bytes() == b"{}"
    assert MAKE.main(["--replace", "design"]) == 0
    assert (tmp_path / "design.json").read_bytes() == good


def test_canonical_bytes_are_read_back() -> None:
    for case in vectors("canonical")["encoded"]:
        data = bytes.fromhex(case["bytes"])
        assert parse_canonical(data) == case["value"]
        assert canonical_bytes(case["value"]) == data


@pytest.mark.parametrize("case", vectors("canonical")["refused"], ids=lambda case: case["why"])
def test_ambiguous_bytes_are_refused(case: dict[str, str]) -> None:
    with pytest.raises(CanonicalError):
        parse_canonical(bytes.fromhex(case["bytes"]))


@pytest.mark.requirement("S02")
def test_records_link_and_their_signatures_hold() -> None:
    given = vectors("record")
    for case in given["records"]:
        record = parse_record(bytes.fromhex(case["prev"]), case["body"].encode())
        assert record.hash.hex() == case["hash"]
        assert record.unsigned_body().decode() == case["unsigned_body"]
        check_signature(bytes.fromhex(given["sign_key"]), case["signature"], record.prev, record.unsigned_body())
