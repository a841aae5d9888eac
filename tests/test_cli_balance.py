"""`balance` as its users type it: who sees what, what is recorded, what is signed, and what activation says of it."""

from __future__ import annotations

import json
import re
import stat
import sys
from pathlib import Path

import pytest

import support
from allocator.design import RandomizationDesign
from test_cli_contract import HASH, RECORD, Site, _command, site_at
from test_cli_contract import used as used  # the fixture

SECRET = re.compile(r"IL2-GCV|\bGCV\b|position|block|\b20\b(?!\d\d)|design|entr(y|ies)", re.IGNORECASE)
MATCHING = {"stratum": {}, "allocated": 1}


def blinded_words(said: str) -> str:
    """What a blinded view says, without its head of study, state and time."""
    return "\n".join(line for line in said.splitlines() if not re.match(r"  (Study|State|Made) ", line))


def sealed_elsewhere(site: Site, arms: bytes) -> None:
    """The list of these arms, sealed as one made elsewhere."""
    service = site.service()
    statistician = service.authenticate("ST", lambda: support.PASSPHRASE, "imported")
    design = RandomizationDesign(
        method="imported-list", length=len(arms), ratio=(("IL2-GCV", 1), ("GCV", 1)), arms=(arms,)
    )
    service.import_list(statistician, design, origin="a spreadsheet", source=b"a spreadsheet", reason="made elsewhere")
    service.close_files()


def test_the_command_has_its_options_and_its_help(used: Site) -> None:
    command = _command("balance")
    assert {name for parameter in command.params for name in parameter.opts} >= {"--sign", "--html", "--pdf"}
    assert used.typed("balance --help").out.startswith("Usage: allocator balance")


# ---- the blinded view -----------------------------------------------------------------------------------------------


@pytest.mark.requirement("C03")
@pytest.mark.parametrize("person", ["", "--as PH ", "--as IN ", "--as SP ", "--as AU ", "--as CU ", "--as nobody "])
def test_everybody_else_sees_allocations_without_arms_and_nothing_is_recorded(person: str, used: Site) -> None:
    before = used.kinds()
    ran = used.typed(f"{person}balance", ALLOCATOR_PASSPHRASE="")
    assert (ran.code, ran.err) == (0, "") and "BLINDED" in ran.out and "1 of 10 planned" in ran.out
    assert SECRET.findall(blinded_words(ran.out)) == []
    result = used.typed(f"--json {person}balance").result
    assert (result["view"], result["allocated"], result["enrollment"]) == ("blinded", 1, 10)
    assert result["strata"] == [MATCHING] and [month["allocated"] for month in result["months"]] == [1]
    assert result.keys() == {
        *("view", "study", "mode", "state", "allocated", "enrollment", "months", "strata", "html", "pdf"),
    }  # fmt: skip
    assert used.kinds() == before


@pytest.mark.requirement("C03")
def test_the_blinded_view_is_the_same_for_both_arms(tmp_path: Path) -> None:
    """The list and the arm may be any: what is said of them is not."""
    said = set()
    for number, arms in enumerate((b"\0\1" * 10, b"\1\0" * 10, b"\1\0\0\1" * 3)):
        folder = tmp_path / str(number)
        folder.mkdir()
        site = site_at(folder, "sealed")
        sealed_elsewhere(site, arms)
        service = site.service()
        person = {p: service.authenticate(p, lambda: support.PASSPHRASE, "use") for p in ("SP", "ST", "IN", "PH")}
        for half in ("PH", "IN"):
            service.grant(person["ST"], half)
        service.decide(person["SP"], "K06", "One to one.", "agreed")
        service.activate(person["SP"], "ethics file")
        now = service._clock()
        service.confirm(person["IN"], "P-001", support.eligible_form("P-001", now), {})
        assert service.reveal(person["PH"], "P-001", "P-001").record.fields["arm"] == arms[0]
        service.close_files()
        said.add((blinded_words(site.typed("balance").out), json.dumps(site.typed("--json balance").result)))
    assert len(said) == 1


def test_before_anything_is_sealed_there_is_nothing_but_zero(tmp_path: Path) -> None:
    site = site_at(tmp_path, "opened")
    assert "0 of 10 planned" in site.typed("balance").out
    ran = site.typed("--json --as SP balance --sign")
    assert (ran.code, ran.result["error"]["code"]) == (1, "not-permitted")


# ---- the restricted view --------------------------------------------------------------------------------------------


@pytest.mark.requirement("G07")
@pytest.mark.requirement("L06")
def test_the_holder_checks_the_list_and_signs_it_off(tmp_path: Path) -> None:
    site = site_at(tmp_path, "granted")
    ran = site.typed("--as ST balance")
    assert (ran.code, ran.err) == (0, "") and "Verdict: no fault found" in ran.out and "by nobody" in ran.out
    records = [json.loads(line) for line in site.typed("--json --as AU log").out.splitlines()]
    assert [(r["kind"], r["purpose"], r["person"]) for r in records if r["kind"] == "list-read"] == [
        ("list-read", "check", "ST")
    ]
    ran = site.typed("--json --as ST balance --sign")
    result = ran.result
    assert (ran.code, result["view"], result["report"]["faults"]) == (0, "restricted", [])
    assert HASH.fullmatch(result["digest"]) and result["signed"]["report_digest"] == result["digest"]
    assert result["record"].keys() == RECORD.keys() and site.kinds()[-2:] == ["list-read", "list-checked"]
    report = result["report"]
    assert report["strata"][0]["entries"] == 20 and sum(report["strata"][0]["counts"]) == 20
    site.typed("--as SP decide K06 --reading 'One to one.' --reason agreed")
    active = site.typed("--json --as SP activate --deposit 'ethics file'").result
    assert active["list_checked"] == result["signed"] and active["list_checked"]["person"] == "ST"
    again = site.typed("--json --as ST balance").result
    assert again["digest"] == result["digest"] and again["signed"] == result["signed"]
    assert site.typed("--as ST balance --sign").code == 1  # it is active
    assert site.kinds()[-2:] == ["list-read", "refused"]  # the one before: what cannot be signed is not read for it
    assert site.verdict() == "intact-local"


@pytest.mark.requirement("G07")
def test_activation_says_who_signed_or_that_nobody_did(tmp_path: Path) -> None:
    for sign in (False, True):
        folder = tmp_path / str(sign)
        folder.mkdir()
        site = site_at(folder, "granted")
        if sign:
            site.typed("--as ST balance --sign")
        site.typed("--as SP decide K06 --reading 'One to one.' --reason agreed")
        said = site.typed("--as SP activate --deposit file").out
        assert ("signed off by ST (Dr ST), 20" in said) == sign
        assert ("signed off by nobody." in said) == (not sign)
        assert ("IL2-GCV" in said) is False


@pytest.mark.requirement("G07")
def test_a_faulty_list_is_shown_and_cannot_be_signed_off(tmp_path: Path) -> None:
    site = site_at(tmp_path, "sealed")
    sealed_elsewhere(site, bytes(10) + b"\1" * 10)
    ran = site.typed("--json --as ST balance")
    assert (ran.code, [fault["code"] for fault in ran.result["report"]["faults"]]) == (3, ["sorted"])
    ran = site.typed("--as ST balance")
    assert ran.code == 3 and "FAULT sorted: the list is sorted by arm" in " ".join(ran.out.split())
    ran = site.typed("--json --as ST balance --sign")
    assert (ran.code, ran.result["error"]["code"]) == (1, "list-faulty")
    assert site.kinds()[-2:] == ["list-read", "refused"] and "list-checked" not in site.kinds()


@pytest.mark.parametrize("person", ["PH", "IN", "AU", "SP", "CU"])
def test_who_does_not_hold_the_list_cannot_sign_it(person: str, tmp_path: Path) -> None:
    site = site_at(tmp_path, "granted")
    ran = site.typed(f"--as {person} balance --sign")
    assert (ran.code, ran.out) == (1, "") and site.kinds()[-1] == "refused"
    assert site.typed("balance --sign").code == 2


def test_during_the_trial_what_was_allocated_stands_beside_the_list(used: Site) -> None:
    result = used.typed("--json --as ST balance").result
    (stratum,) = result["strata"]
    assert stratum["arms"] == stratum["list"] and sum(stratum["arms"].values()) == 1 == stratum["allocated"]
    assert (stratum["difference"], stratum["in_error"], stratum["late"]) == ("1", 0, 0)
    used.typed("--as PH correct P-001 --what in-error --value P-001 --reason 'the same person'")
    said = used.typed("--as ST balance").out
    assert "1 of 10 planned; 1 marked as randomized in error." in said
    assert re.search(r"^  all +1 +[01] / [01] +[01] / [01] +1 +1 +0$", said, re.M)
    assert "list-read" in used.kinds() and used.verdict() == "intact-local"


@pytest.mark.requirement("U05")
def test_once_opened_the_list_is_the_one_the_seed_draws(used: Site) -> None:
    for line in ("--as SP close --reason done", "--as ST open", "--as CU open"):
        assert used.typed(line).code == 0
    result = used.typed("--json --as ST balance").result
    assert (result["state"], result["drawn_again"]) == ("opened", True)
    assert "drawn again from it, the list is the same in every entry" in " ".join(
        used.typed("--as ST balance").out.split()
    )
    seed = used.home / "schedules" / "NCT04225780" / "seed.json"
    data = json.loads(seed.read_bytes())
    seed.chmod(0o644)
    seed.write_text(json.dumps({**data, "shares": data["shares"][::-1]}, sort_keys=True, separators=(",", ":")))
    assert used.typed("--as ST balance").code == 3
    seed.unlink()
    assert used.typed("--as ST balance").code == 3


# ---- files ----------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("C02")
def test_a_restricted_page_is_its_owners_and_not_of_the_home(used: Site) -> None:
    pytest.importorskip("typst")
    result = used.typed("--json --as ST balance --html r.html --pdf r.pdf").result
    assert (result["html"], result["pdf"]) == ("r.html", "r.pdf")
    assert used.desk.joinpath("r.pdf").read_bytes().startswith(b"%PDF-")
    assert [stat.S_IMODE(used.desk.joinpath(name).stat().st_mode) for name in ("r.html", "r.pdf")] == [0o600] * 2
    said = used.typed("balance --html b.html").out
    assert "Written: b.html" in said and stat.S_IMODE(used.desk.joinpath("b.html").stat().st_mode) == 0o644
    before = used.kinds()
    inside = used.home / "schedules" / "NCT04225780" / "r.html"
    for option in ("--html r.html", "--pdf no/r.pdf", f"--html {inside}", f"--pdf {used.home / 'keys' / 'r.pdf'}"):
        assert used.typed(f"--as ST balance {option}").code == 2
    assert used.kinds() == before


def test_without_the_extra_nothing_is_recorded(used: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    before = used.kinds()
    for package, option in (("matplotlib", "--html"), ("jinja2", "--html"), ("typst", "--pdf")):
        with monkeypatch.context() as missing:
            missing.setitem(sys.modules, package, None)
            ran = used.typed(f"--as ST balance {option} r.page")
            assert ran.code == 2 and "allocator[report]" in ran.err
            assert used.typed("--as ST balance").code == 0  # the terminal needs none of them
    assert used.kinds() == [*before, *["list-read"] * 3] and not (used.desk / "r.page").exists()
