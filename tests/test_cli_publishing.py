"""The commands of what leaves the building, as their users type them."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from allocator.checkpoint import parse_checkpoint
from allocator.receipt import parse_receipt
from test_cli_contract import HASH, Site, _command, site_at
from test_cli_contract import used as used  # the fixture

OPTIONS = {
    "checkpoint": ("--to", "--since", "--size"),
    "receipt": ("--pdf", "--text", "--to"),
    "export": ("--scope",),
    "open": ("--share",),
    "review": ("--from", "--to", "--findings"),
    "verify": ("--head", "--root", "--receipt", "--checkpoint", "--trail", "--jobs"),
    "person list": ("--at",),
}


@pytest.mark.parametrize(("path", "options"), OPTIONS.items(), ids=list(OPTIONS))
def test_a_command_has_its_options_and_its_help(path: str, options: tuple[str, ...], used: Site) -> None:
    command = _command(path)
    assert {name for parameter in command.params for name in parameter.opts} >= set(options)
    assert command.help
    ran = used.typed(f"{path} --help")
    assert (ran.code, ran.err) == (0, "") and ran.out.startswith(f"Usage: allocator {path}")


@pytest.mark.requirement("L03")
def test_a_checkpoint_needs_nobody_and_anchors_the_log(used: Site) -> None:
    ran = used.typed("checkpoint")
    note = parse_checkpoint(ran.out.encode())
    assert (ran.code, note.origin.split("/")[1]) == (0, "NCT04225780")
    result = used.typed("--json checkpoint --to cp.txt").result
    assert result["note"] == ran.out == (used.desk / "cp.txt").read_text("utf-8")
    assert result["size"] == len(used.kinds()) and HASH.fullmatch(result["tree"])
    assert re.fullmatch(r"allocator/NCT04225780/[0-9a-f]{16}\+[0-9a-f]{8}\+[A-Za-z0-9+/]{44}", result["key"])
    assert used.typed("--json verify --checkpoint cp.txt").result["verdict"] == "intact"
    assert used.typed("checkpoint --to cp.txt").code == 2  # never written over


def test_a_consistency_proof_from_an_older_checkpoint(used: Site) -> None:
    assert used.typed("checkpoint --size 5 --to old.txt").code == 0
    said = used.typed("checkpoint --since old.txt --size 9").out
    assert said.startswith("old 5\n") and parse_checkpoint(said.partition("\n\n")[2].encode()).size == 9
    assert used.typed("checkpoint --size 500").code == used.typed("checkpoint --since old.txt --size 4").code == 2
    used.desk.joinpath("bad.txt").write_text(used.desk.joinpath("old.txt").read_text("utf-8").replace("\n5\n", "\n6\n"))
    assert used.typed("checkpoint --since old.txt --to proof.txt").code == 0
    assert used.typed("--json verify --checkpoint proof.txt").result["verdict"] == "intact"
    assert used.typed("checkpoint --since page.txt").code == used.typed("checkpoint --since desk").code == 2
    ran = used.typed("--json checkpoint --since bad.txt")
    assert (ran.code, ran.result["error"]["code"]) == (3, "checkpoint")


@pytest.mark.requirement("A09", "A10")
def test_a_receipt_again_as_proof_words_and_page(used: Site) -> None:
    ran = used.typed("--as PH receipt P-001")
    first = parse_receipt((ran.out.rstrip("\n") + "\n").encode())
    assert (ran.code, first.copy["person"]) == (0, "PH")  # type: ignore[index]
    result = used.typed("--json --as AU receipt P-001 --to again.tlog-proof").result
    assert (result["participant"], result["number"], result["name"]) == ("P-001", 1, "000001-P-001.tlog-proof")
    assert result["receipt"] == (used.desk / "again.tlog-proof").read_text("utf-8")
    assert used.kinds()[-2:] == ["receipt-copied", "receipt-copied"]
    words = used.typed("--as PH receipt P-001 --text").out
    for expected in ("TEST: NOT FOR A PATIENT", "P-001", "COPY", "PH (Dr PH)", result["record"]["hash"]):
        assert expected in words
    assert used.typed("--json verify --receipt again.tlog-proof").result["verdict"] == "intact"


@pytest.mark.requirement("A09")
def test_a_receipt_as_a_page(used: Site) -> None:
    pytest.importorskip("typst")
    result = used.typed("--json --as PH receipt P-001 --pdf page.pdf").result
    assert result["pdf"] == "page.pdf" and (used.desk / "page.pdf").read_bytes().startswith(b"%PDF-")
    before = used.kinds()
    assert used.typed("--as PH receipt P-001 --pdf page.pdf").code == 2
    assert used.kinds() == before


def test_without_the_extra_nothing_is_recorded(used: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "typst", None)
    before = used.kinds()
    ran = used.typed("--as PH receipt P-001 --pdf page.pdf")
    assert ran.code == 2 and "allocator[report]" in ran.err
    assert used.kinds() == before and not (used.desk / "page.pdf").exists()


def test_receipts_that_cannot_be_made(used: Site) -> None:
    before = used.kinds()
    assert used.typed("--as PH receipt P-001 --to no/folder").code == 2
    assert used.kinds() == before
    assert used.typed("--as PH receipt P-002").code == 1  # confirmed, not allocated
    assert used.kinds()[-1] == "refused"
    assert used.typed("--as IN receipt P-001").code == 1
    assert used.typed("--as PH receipt 'Li Na'").code == 2
    assert used.typed("receipt P-001").code == 2


@pytest.mark.requirement("A04")
def test_a_reveal_stands_when_its_receipt_cannot_be_made(used: Site) -> None:
    (used.home / "keys" / "NCT04225780" / "log.key").unlink()
    ran = used.typed("--json --as PH reveal P-002 --retype P-002")
    assert (ran.code, ran.result["receipt"]) == (0, None)
    assert "its receipt could not be kept" in ran.err and "Restore" not in ran.out
    assert used.typed("--as PH receipt P-002").code == 4


def test_a_receipt_alone(used: Site) -> None:
    receipt = used.home / "schedules" / "NCT04225780" / "receipts" / "000001-P-001.tlog-proof"
    if not receipt.exists():  # the stage was made without the command line
        used.typed("--as PH reveal P-001 --retype P-001")
    shutil.copy(receipt, used.desk / "r.tlog-proof")
    first = used.typed("--json status").result["first_record"]
    ran = used.typed("--json verify r.tlog-proof")
    assert (ran.code, ran.result["verdict"]) == (3, "intact-unanchored")
    assert ran.result["receipt"]["participant"] == "P-001"
    own = used.typed("--json --as PH show P-001").result["record"]["hash"]
    assert used.typed(f"verify r.tlog-proof --head {own}").code == 0
    # anybody can write record 0's hash beside keys of their own: it is compared, and proves nothing
    assert used.typed(f"--json verify r.tlog-proof --head {first}").result["verdict"] == "intact-unanchored"
    assert used.typed("verify r.tlog-proof --receipt r.tlog-proof").code == 2
    root = used.typed("--json status").result["root"]
    assert used.typed(f"--json verify r.tlog-proof --root {root}").result["verdict"] == "intact-unanchored"
    assert used.typed(f"verify r.tlog-proof --root {first}").code == 3
    text = used.typed("verify r.tlog-proof").out
    assert text.startswith("OF ONE PIECE") and first in text
    used.desk.joinpath("r.tlog-proof").write_bytes(receipt.read_bytes().replace(b"index", b"indes"))
    ran = used.typed("verify r.tlog-proof")
    assert ran.code == 3 and ran.out.startswith("BROKEN")
    assert used.typed("verify --receipt empty").code == 2
    used.desk.joinpath("empty").mkdir()
    assert used.typed("verify --receipt empty").code == 2


@pytest.mark.requirement("C06")
def test_a_deposited_root_is_that_of_the_list(used: Site) -> None:
    root = used.typed("--json status").result["root"]
    assert used.typed(f"--json verify --root {root}").result["verdict"] == "intact-local"  # it anchors the list only
    ran = used.typed(f"--json verify --root {'0' * 64}")
    assert (ran.code, [f["check"] for f in ran.result["findings"]]) == (3, ["22 given head"])
    assert used.typed("verify --root 00").code == 2


@pytest.mark.requirement("R01")
def test_an_export_is_made_and_verified(used: Site) -> None:
    result = used.typed("--json --as AU export out").result
    assert set(result["files"]) == {path.name for path in (used.desk / "out").iterdir()}
    assert (result["scope"], used.kinds()[-1]) == ("evidence", "exported")
    said = used.typed("verify out")
    assert said.code == 0 and "anchored only by the export's own head" in said.out.replace("\n", " ")
    assert used.typed(f"--json verify out --head {result['head']}").result["verdict"] == "intact"
    assert used.typed("--as AU export out").code == 2
    assert used.typed("--as PH export other").code == 1
    assert used.typed("--as AU export out2 --scope all").code == 2
    (used.desk / "out" / "records.jsonl").write_bytes(b"")
    ran = used.typed("verify out")
    assert ran.code == 3 and "[05 rows]" in ran.out


@pytest.mark.requirement("U05", "C06")
def test_the_list_is_opened_by_two_after_the_close(tmp_path: Path) -> None:
    site = site_at(tmp_path, "full")
    assert site.typed("--as ST open").code == 1  # not closed
    assert site.typed("--as SP close --reason done").code == 0
    assert site.typed("--as PH open").code == 1
    waiting = site.typed("--json --as CU open").result
    assert (waiting["matches"], waiting["waiting_for"]) == (None, "ST")
    opened = site.typed("--json --as ST open").result
    assert opened["matches"] is True and HASH.fullmatch(opened["root"])
    assert site.typed("--json status").result["state"] == "opened"
    assert site.verdict() == "intact-local"
    assert site.typed("--as ST open").code == 1
    assert site.typed("--as PH reveal P-004 --retype P-004").code == 1
    Path(opened["seed"]).write_bytes(b"{}")
    ran = site.typed("--json verify")
    assert (ran.code, [f["check"] for f in ran.result["findings"]]) == (3, ["25 opening"])


@pytest.mark.requirement("L08")
def test_a_review(used: Site) -> None:
    result = used.typed("--json --as AU review --from 2026-01-01 --to 2026-01-31 --findings 'nothing'").result
    assert result["since"] == "2025-12-31T16:00:00.000Z"  # in the study's time zone
    assert used.typed("--as AU review --from 2026-02-01 --to 2026-01-31 --findings x").code == 2
    assert used.typed("--as AU review --from 0001-01-01 --to 2026-01-31 --findings x").code == 2
    assert used.typed("--as AU review --from x --to 2026-01-31 --findings x").code == 2
    assert used.typed("--as SP review --from 2026-01-01 --to 2026-01-31 --findings x").code == 1


@pytest.mark.requirement("L07")
@pytest.mark.parametrize("suffix", ["csv", "json"])
def test_a_trail_that_went_through_other_hands(used: Site, suffix: str) -> None:
    assert used.typed(f"--as AU log --participant P-001 --to trail.{suffix}").code == 0
    assert used.typed(f"--json verify --trail trail.{suffix}").result["verdict"] == "intact"
    path = used.desk / f"trail.{suffix}"
    used.desk.joinpath("empty.json").write_text("[]")
    assert used.typed("verify --trail empty.json").code == 3  # nothing in it anchors anything
    path.write_bytes(path.read_bytes().replace(b"P-001", b"P-002", 1))
    ran = used.typed(f"--json verify --trail trail.{suffix}")
    assert (ran.code, {f["check"] for f in ran.result["findings"]}) == (3, {"27 trail"})


@pytest.mark.requirement("S06")
def test_people_as_of_a_time(used: Site) -> None:
    assert used.typed("--json person list --at 2026-01-01").result == {"people": []}
    now = used.typed("--json person list").result["people"]
    assert used.typed("--json person list --at 2099-01-01").result["people"] == now
    assert used.typed("person list --at yesterday").code == 2


def test_json_of_a_refused_export_says_why(used: Site) -> None:
    error = used.typed("--json --as IN export x").result["error"]
    assert error["code"] == "not-permitted" and json.dumps(error)
