"""`import` and `list` as the statistician types them, and the whole way of a list that was made elsewhere."""

from __future__ import annotations

import hashlib
import hmac
import json
import shutil
import stat
from pathlib import Path

import pytest

import support
from allocator.canonical import tag
from allocator.service import AllocationService
from test_cli_contract import HASH, Site, site_at

CODES = [arm.code for arm in support.study().arms]
ARMS = [1, 0, 0, 1, 1, 0, 0, 1, 1, 0]
ORIGIN = "--origin 'R 4.4, blockrand 1.5, by W. Liu'"


@pytest.fixture
def enrolled(tmp_path: Path) -> Site:
    """A study without a list, and list.csv on the desk."""
    site = site_at(tmp_path, "enrolled")
    rows = [f'"{n}",{n},"1",10,"{CODES[arm]}"' for n, arm in enumerate(ARMS, 1)]
    head = '"","id","block.id","block.size","treatment"'
    site.desk.joinpath("list.csv").write_text("\n".join([head, *rows]) + "\n", "utf-8")
    return site


def imported(site: Site, more: str = "") -> dict[str, object]:
    """The result of sealing list.csv."""
    ran = site.typed(f"--json --as ST import list.csv {ORIGIN} {more}")
    assert ran.code == 0, ran.said
    return ran.result


def activated(site: Site) -> None:
    """Granted, decided and active."""
    for line in (
        "--as ST grant PH",
        "--as ST grant IN",
        "--as SP decide K06 --reading one --reason agreed",
        "--as SP activate --deposit file",
    ):
        ran = site.typed(line)
        assert ran.code == 0, ran.said


def allocated(site: Site, *participants: str) -> list[int]:
    """The arms told, by index."""
    found = []
    for participant in participants:
        assert site.typed(f"--as IN confirm {participant} --answers {site.form(participant)}").code == 0
        result = site.typed(f"--json --as PH reveal {participant} --retype {participant}").result
        found.append(CODES.index(result["arm"]["code"]))
    return found


@pytest.mark.requirement("C06", "U05")
def test_the_whole_way_of_an_imported_list(enrolled: Site, tmp_path: Path) -> None:
    result = imported(enrolled)
    assert (result["layout"], result["strata"], result["length"], result["doubts"]) == ("blockrand", 1, 10, [])
    assert HASH.fullmatch(str(result["root"])) and enrolled.kinds()[-1] == "imported"
    activated(enrolled)
    assert allocated(enrolled, "P-001", "P-002", "P-003") == ARMS[:3]
    assert enrolled.verdict() == "intact-local"
    assert enrolled.typed("--as SP close --reason 'all are in'").code == 0
    for person in ("ST", "CU"):
        ran = enrolled.typed(f"--as {person} open")
        assert ran.code == 0, ran.said
    assert enrolled.verdict() == "intact-local"
    seed = json.loads((enrolled.home / "schedules" / support.STUDY_ID / "seed.json").read_bytes())
    design = seed["design"]
    keyed = tag("source") + (enrolled.desk / "list.csv").read_bytes()  # docs/spec.md §5.6: who has the file can show it
    assert hmac.digest(bytes.fromhex(seed["salt"]), keyed, "sha256").hex() == result["source_digest"]
    assert (design["method"], design["arms"]) == ("imported-list", [bytes(ARMS).hex()])
    folder = tmp_path / "export"
    assert enrolled.typed(f"--as AU export {folder}").code == 0
    assert enrolled.typed(f"--json verify {folder}").result["verdict"] == "intact-local"


@pytest.mark.requirement("C01")
def test_what_the_log_keeps_of_the_file_tells_no_arm(enrolled: Site) -> None:
    """A digest of the file alone would: whoever has the log could try all lists of ten."""
    result, data = imported(enrolled), (enrolled.desk / "list.csv").read_bytes()
    record = next(r for r in enrolled.service().history.store.records() if r.kind == "imported")
    assert record.fields["source_digest"] == result["source_digest"] != hashlib.sha256(data).hexdigest()
    kept = {file.name: file.read_bytes() for file in enrolled.home.rglob("*") if file.is_file()}
    secrets = [bytes(ARMS).hex().encode(), bytes(ARMS), b"block.id", b'10,"GCV"']
    assert [name for name, data in kept.items() if any(secret in data for secret in secrets)] == []
    assert any(b"R 4.4" in data for data in kept.values())  # so that the hunt is known to find
    other = imported(enrolled, "--reason again")
    assert other["source_digest"] != result["source_digest"] and other["root"] != result["root"]


def test_what_an_import_means_is_said(enrolled: Site) -> None:
    ran = enrolled.typed(f"--as ST import list.csv {ORIGIN}")
    assert ran.code == 0 and "can be read by others" in ran.err
    (enrolled.desk / "list.csv").chmod(0o600)
    ran = enrolled.typed(f"--as ST import list.csv {ORIGIN} --reason again")
    assert (ran.code, ran.err) == (0, "")
    for words in ("SOMEBODY MAY KNOW THIS LIST", "Destroy the file", "salt", "blockrand", "each of 10 entries"):
        assert words in ran.out
    assert "GCV" not in ran.out


@pytest.mark.requirement("C01")
def test_a_file_that_others_may_keep_is_told(enrolled: Site) -> None:
    (enrolled.desk / "list.csv").chmod(0o600)
    (enrolled.desk / ".git").mkdir()
    assert "git work tree" in enrolled.typed(f"--as ST import list.csv {ORIGIN}").err
    shutil.copy(enrolled.desk / "list.csv", enrolled.home / "list.csv")
    assert "in the home" in enrolled.typed(f"--as ST import {enrolled.home}/list.csv {ORIGIN} --reason again").err


@pytest.mark.requirement("G06")
def test_a_second_list_needs_a_reason(enrolled: Site) -> None:
    imported(enrolled)
    ran = enrolled.typed(f"--json --as ST import list.csv {ORIGIN}")
    assert (ran.code, ran.result["error"]["code"]) == (1, "reason-missing")
    imported(enrolled, "--reason 'the wrong file'")
    assert enrolled.typed("--as ST generate design.toml --reason 'drawn here after all'").code == 0
    assert enrolled.kinds()[-4:] == ["imported", "refused", "imported", "generated"]


@pytest.mark.requirement("G07")
def test_faults_and_doubts_seal_nothing(enrolled: Site) -> None:
    file, before = enrolled.desk / "list.csv", enrolled.kinds()
    good = file.read_text("utf-8")
    file.write_text(good.replace(',"GCV"', ',"GVC"', 1), "utf-8")
    ran = enrolled.typed(f"--as ST import list.csv {ORIGIN} --reason x")
    assert ran.code == 2 and "list.csv:2:14  treatment: 'GVC' is no arm" in ran.err
    file.write_text(good.replace(',"GCV"', ',"IL2-GCV"', 1), "utf-8")
    ran = enrolled.typed(f"--json --as ST import list.csv {ORIGIN}")
    assert (ran.code, ran.result["error"]["code"]) == (2, "list-doubtful")
    assert "--reason" in ran.result["error"]["hint"] and ran.result["error"]["details"][0]["line"] == 2
    assert enrolled.kinds() == before
    ran = enrolled.typed(f"--as ST import list.csv {ORIGIN} --reason 'complete randomization'")
    assert ran.code == 0 and "Warning: taken for the reason given: list.csv:2:14" in ran.err
    details = enrolled.service().history.store.details(len(before))
    assert {name: detail.value for name, detail in details.items()} == {
        "origin": "R 4.4, blockrand 1.5, by W. Liu",
        "reason": "complete randomization",
    }


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("--as ST import list.csv", 2),
        ("--as ST import list.csv --origin ' '", 2),
        ("--as ST import none.csv --origin x", 2),
        ("--as ST import design.toml --origin x", 2),
        ("--as ST import list.csv --origin x --ratio GCV=2", 2),
        ("--as ST import list.csv --origin x --ratio GCV=0 --ratio IL2-GCV=1", 2),
        ("--as ST import list.csv --origin x --map A=GCV", 2),
        ("--as ST import list.csv --origin x --length 11", 2),
        ("--as SP import list.csv --origin x", 1),
        ("--as PH import list.csv --origin x", 1),
        ("import list.csv --origin x", 2),
        ("--as ST list --columns redcap", 1),  # nothing is sealed
        ("--as ST list", 2),
        ("--as ST list --columns sas", 2),
    ],
)
def test_what_is_not_taken(line: str, code: int, enrolled: Site) -> None:
    ran = enrolled.typed(line)
    assert ran.code == code, ran.said
    assert "imported" not in enrolled.kinds() and "Traceback" not in ran.said


# ---- the list in plain ----------------------------------------------------------------------------------------------


@pytest.mark.requirement("L06")
@pytest.mark.parametrize("columns", ["redcap", "blockrand"])
def test_a_list_goes_out_and_comes_in_again(columns: str, tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    first, second = site_at(tmp_path / "one", "sealed"), site_at(tmp_path / "two", "enrolled")
    ran = first.typed(f"--json --as ST list --columns {columns} --to {second.desk / 'l.csv'}")
    assert (ran.code, ran.result["entries"], first.kinds()[-1]) == (0, 20, "list-read")
    file = second.desk / "l.csv"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert second.typed(f"--as ST import l.csv {ORIGIN} --reason 'the last block is cut'").code == 0
    activated(first)
    activated(second)
    people = ("P-001", "P-002", "P-003", "P-004")
    assert allocated(first, *people) == allocated(second, *people)
    again = second.typed(f"--as ST list --columns {columns} --map 1=GCV --map 2=IL2-GCV").out
    plain = second.typed(f"--as ST list --columns {columns}").out
    column = (
        plain.splitlines()[0].split(",").index("treatment" if columns == "blockrand" else "redcap_randomization_group")
    )
    arms = [line.split(",")[column] for line in plain.splitlines()[1:]]
    assert [{"1": "GCV", "2": "IL2-GCV"}[line.split(",")[column]] for line in again.splitlines()[1:]] == arms
    assert arms == [line.split(",")[column] for line in file.read_text("utf-8").splitlines()[1:]]
    assert second.verdict() == "intact-local"


@pytest.mark.requirement("V03", "G08")
def test_a_list_of_mode_test_says_so_and_is_none_for_production(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = site_at(tmp_path, "sealed")
    ran = site.typed("--as ST list --columns redcap")
    assert ran.out.splitlines()[0] == "redcap_randomization_group,redcap_randomization_number,notice"
    assert all(line.endswith(",TEST: NOT FOR A PATIENT") for line in ran.out.splitlines()[1:])
    assert "every arm still to come" in ran.err and "TEST: NOT FOR A PATIENT" in ran.err
    (site.desk / "l.csv").write_text(ran.out, "utf-8")
    monkeypatch.setattr(AllocationService, "mode", property(lambda _: "production"))
    refused = site.typed("--json --as ST import l.csv --origin elsewhere --reason again")
    assert (refused.code, refused.result["error"]["code"]) == (2, "test-list")


@pytest.mark.requirement("C02", "L06")
@pytest.mark.parametrize("person", ["SP", "CU", "IN", "PH", "AU"])
def test_nobody_else_reads_it(person: str, tmp_path: Path) -> None:
    site = site_at(tmp_path, "sealed")
    ran = site.typed(f"--as {person} list --columns redcap --to l.csv")
    assert ran.code == 1 and "IL2-GCV" not in ran.said and not (site.desk / "l.csv").exists()
    assert site.kinds()[-1] == "refused"


@pytest.mark.parametrize(
    ("target", "code"),
    [
        ("design.toml", "file-exists"),
        ("none/l.csv", "no-folder"),
        ("{home}/l.csv", "inside-home"),
        (f"{{home}}/schedules/{support.STUDY_ID}/l.csv", "inside-home"),
        ("link.csv", "file-exists"),
        ("way/l.csv", "inside-home"),
        ("tree/sub/l.csv", "inside-git"),
    ],
    ids=["there", "no folder", "home", "schedules", "link", "linked folder", "work tree"],
)
def test_where_a_list_in_plain_may_not_lie(target: str, code: str, tmp_path: Path) -> None:
    site = site_at(tmp_path, "sealed")
    (site.desk / "link.csv").symlink_to("nowhere.csv")
    (site.desk / "way").symlink_to(site.home)
    (site.desk / "tree" / ".git").mkdir(parents=True)
    (site.desk / "tree" / "sub").mkdir()
    before = site.kinds()
    ran = site.typed(f"--json --as ST list --columns redcap --to {target.format(home=site.home)}")
    assert (ran.code, ran.result["error"]["code"]) == (2, code)
    assert site.kinds() == before
