"""The command `statement` as its users type it: who needs what, what is refused, and what stays restricted."""

from __future__ import annotations

import hashlib
import json
import re
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from allocator.design import RandomizationDesign
from support import STUDY_ID, TrialFactory
from test_cli_contract import HASH, Ran, Site, _command, site_at

OTHER_DESIGN = """
format = "allocator-design/1"
method = "big-stick"
limit = 3
length = 20

[ratio]
"IL2-GCV" = 1
"GCV" = 1
"""


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """An active study with three of three allocated."""
    return site_at(tmp_path, "full")


def error(ran: Ran) -> tuple[int, str]:
    """Exit code and the error's own code."""
    return ran.code, str(ran.result["error"]["code"])


def test_it_has_its_options_and_its_help(site: Site) -> None:
    assert {name for parameter in _command("statement").params for name in parameter.opts} >= {"--design", "--to"}
    ran = site.typed("statement --help")
    assert (ran.code, ran.err) == (0, "") and all(word in ran.out for word in ("public", "restricted", "consort"))


# ---- public ---------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("P02", "C03")
@pytest.mark.parametrize("stage", ["opened", "sealed", "active", "used"])
def test_public_needs_nobody_and_writes_nothing(stage: str, tmp_path: Path) -> None:
    site = site_at(tmp_path, stage)
    before = site.typed("--json status").result["records"]
    for person in ("", "--as PH ", "--as ST "):
        ran = site.typed(f"{person}statement public", ALLOCATOR_PASSPHRASE="wrong")
        assert ran.code == 0 and ran.out.startswith(f"Randomization of {STUDY_ID}, protocol version 1.0: public")
        assert not re.search(r"block|limit|\bratio|length|entries|permut|\b(4|6|20)\b(?! November)", ran.out)
    assert site.typed("--json status").result["records"] == before


def test_public_takes_no_design(site: Site) -> None:
    assert error(site.typed("--json statement public --design design.toml")) == (2, "design")


@pytest.mark.requirement("P02")
def test_the_json_holds_the_text_and_its_digest(site: Site) -> None:
    result = site.typed("--json statement public").result
    assert result["sha256"] == hashlib.sha256(result["text"].encode()).hexdigest()
    status = site.typed("--json status").result
    bound = result["bound"]
    assert (bound["head"], bound["root"], bound["records"]) == (status["head"], status["root"], status["records"])
    assert result["statement"] == "public" and "design_commitment" not in bound
    assert HASH.fullmatch(bound["fingerprint"]) and bound["fingerprint"] in result["text"]
    ran = site.typed("statement public")
    assert ran.out == result["text"] and result["sha256"] in ran.err


def test_to_a_file(site: Site) -> None:
    result = site.typed("--json statement public --to public.txt").result
    data = (site.desk / "public.txt").read_bytes()
    assert (result["file"], result["sha256"]) == ("public.txt", hashlib.sha256(data).hexdigest())
    assert error(site.typed("--json statement public --to public.txt")) == (2, "file-exists")
    assert error(site.typed("--json statement public --to no/folder.txt")) == (2, "no-folder")
    assert "is in other.txt" in site.typed("statement public --to other.txt").out


# ---- restricted -----------------------------------------------------------------------------------------------------


@pytest.mark.requirement("P02")
def test_restricted_by_a_design_file_alone_was_not_compared(site: Site) -> None:
    ran = site.typed("statement restricted --design design.toml")
    assert ran.code == 0 and "block sizes of 4 and 6" in ran.out and "was not checked" in ran.out
    (site.desk / "other.toml").write_text(OTHER_DESIGN)
    assert "imbalance limit of 3" in site.typed("statement restricted --design other.toml").out
    assert error(site.typed("--json statement restricted")) == (2, "design")
    assert site.typed("statement restricted --design no.toml").code == 2


@pytest.mark.requirement("P02", "C02")
def test_restricted_by_a_holder_of_a_share(site: Site) -> None:
    for line in ("restricted", "restricted --design design.toml"):
        for person in ("ST", "CU"):
            ran = site.typed(f"--as {person} statement {line}")
            assert ran.code == 0 and "This is the design of the sealed list" in ran.out
    (site.desk / "other.toml").write_text(OTHER_DESIGN)
    assert error(site.typed("--json --as ST statement restricted --design other.toml")) == (2, "design-not-sealed")
    for person in ("PH", "IN", "SP", "AU"):
        ran = site.typed(f"--json --as {person} statement restricted --design design.toml")
        assert error(ran) == (1, "no-share")
    ran = site.typed("--json --as ST statement restricted", ALLOCATOR_PASSPHRASE="wrong")
    assert error(ran) == (4, "wrong-passphrase")


@pytest.mark.requirement("P02", "C03")
def test_the_restricted_text_is_its_owners_and_not_of_the_home(site: Site) -> None:
    assert site.typed("--as ST statement restricted --to r.txt").code == 0
    assert site.typed("statement public --to p.txt").code == 0
    assert [stat.S_IMODE(site.desk.joinpath(name).stat().st_mode) for name in ("r.txt", "p.txt")] == [0o600, 0o644]
    (site.desk / "tree" / ".git").mkdir(parents=True)
    for target, code in ((site.home / "r.txt", "inside-home"), ("tree/r.txt", "inside-git")):
        assert error(site.typed(f"--json --as ST statement restricted --to {target}")) == (2, code)


def test_restricted_before_a_list(tmp_path: Path) -> None:
    site = site_at(tmp_path, "enrolled")
    ran = site.typed("--as ST statement restricted --design design.toml")
    assert ran.code == 0 and "No list was sealed when this was written." in ran.out
    assert error(site.typed("--json --as ST statement restricted")) == (2, "design")
    (site.desk / "design.toml").write_text(OTHER_DESIGN.replace('"GCV"', '"PLACEBO"'))
    ran = site.typed("--json statement restricted --design design.toml")
    assert error(ran) == (2, "design-not-for-study")


def test_restricted_of_a_list_made_elsewhere(trials: TrialFactory, tmp_path: Path) -> None:
    how = RandomizationDesign(
        method="imported-list", length=4, ratio=(("IL2-GCV", 1), ("GCV", 1)), arms=(bytes([0, 1, 1, 0]),)
    )
    (tmp_path / "desk").mkdir()
    trial = trials("active", how=how)
    (digest,) = (record.fields["source_digest"] for record in trial.records if record.kind == "imported")
    site = Site(home=trial.home, desk=tmp_path / "desk", codes={})
    ran = site.typed("--as ST statement restricted")
    assert ran.code == 0 and "prepared outside the randomization program" in ran.out and digest in ran.out
    assert "00010100" not in ran.out
    assert "prepared outside the randomization program" in site.typed("statement public").out


# ---- consort --------------------------------------------------------------------------------------------------------


@pytest.fixture
def closed(site: Site) -> Iterator[Site]:
    """The study closed, two participants corrected."""
    site.typed("--as PH correct P-001 --what ineligible --value I2b --reason x")
    site.typed("--as PH correct P-002 --what in-error --value P-003 --reason x")
    site.typed("--as SP close --reason done")
    yield site


@pytest.mark.requirement("P02")
def test_consort_comes_after_the_close(tmp_path: Path) -> None:
    for stage in ("enrolled", "sealed", "active"):
        tmp_path.joinpath(stage).mkdir()
        site = site_at(tmp_path / stage, stage)
        for line in ("statement consort --design design.toml", "--as ST statement consort"):
            ran = site.typed(f"--json {line}")
            assert error(ran) == (1, "not-closed") and "4 and 6" not in ran.said


@pytest.mark.requirement("P02", "C04")
def test_consort_of_a_closed_study_needs_a_share(closed: Site) -> None:
    for line in ("statement consort", "statement consort --design design.toml"):
        assert error(closed.typed(f"--json {line}")) == (2, "design")
    assert error(closed.typed("--json --as PH statement consort --design design.toml")) == (1, "no-share")
    result = closed.typed("--json --as ST statement consort --design design.toml").result
    assert result["allocated"] == 3 == sum(arm["allocated"] for arm in result["arms"])
    assert (result["deviations"]["ineligible"], result["deviations"]["in_error"]) == (1, 1)
    assert (result["deviations"]["late"], result["readings"], result["opened"]) == (0, [], None)
    assert result["bound"]["design_commitment"] in result["text"]
    assert closed.typed("--as CU statement consort").out == result["text"]


@pytest.mark.requirement("P02", "C06")
def test_consort_of_an_opened_study_needs_nobody(closed: Site) -> None:
    for person in ("ST", "CU"):
        closed.typed(f"--as {person} open")
    ran = closed.typed("statement consort")
    assert ran.code == 0 and "block sizes of 4 and 6" in ran.out and "agreed with the sealed one" in ran.out
    assert closed.typed("--as PH statement consort", ALLOCATOR_PASSPHRASE="wrong").out == ran.out
    assert "This is the design of the sealed list" in closed.typed("statement restricted").out
    (closed.desk / "other.toml").write_text(OTHER_DESIGN)
    assert error(closed.typed("--json statement consort --design other.toml")) == (2, "design-not-sealed")
    seed = closed.home / "schedules" / STUDY_ID / "seed.json"
    kept = seed.read_bytes()
    seed.write_bytes(kept.replace(b"[4,6]", b"[4,8]"))
    assert error(closed.typed("--json statement consort")) == (3, "seed")
    seed.unlink()
    assert error(closed.typed("--json statement consort")) == (3, "seed")


def test_a_study_closed_without_a_list_has_no_report(tmp_path: Path) -> None:
    """Nothing is closed before it was active, and nothing active without a list."""
    site = site_at(tmp_path, "enrolled")
    assert site.typed("--as SP close --reason done").code == 1
    assert error(site.typed("--json statement consort")) == (1, "not-closed")


# ---- evidence -------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("L02", "L03")
@pytest.mark.parametrize("kind", ["public", "restricted --design design.toml"])
def test_nothing_is_written_of_a_log_that_was_changed(kind: str, site: Site) -> None:
    head = site.home / "keys" / STUDY_ID / "head"
    kept = head.read_bytes()
    head.write_bytes(re.sub(rb"\d+", lambda match: b"%d" % (int(match[0]) + 1), kept, count=1))
    assert error(site.typed(f"--json statement {kind}")) == (3, "behind-head")
    head.write_bytes(kept)
    with sqlite3.connect(site.home / "schedules" / STUDY_ID / "log.sqlite3") as log:
        for (name,) in log.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'").fetchall():
            log.execute(f"DROP TRIGGER {name}")
        (body,) = log.execute("SELECT body FROM record WHERE seq = 9").fetchone()
        changed = json.dumps(
            {**json.loads(body), "time": "2026-01-01T00:00:00.000Z"}, sort_keys=True, separators=(",", ":")
        )
        log.execute("UPDATE record SET body = ? WHERE seq = 9", (changed,))
    ran = site.typed(f"--json statement {kind}")
    assert ran.code == 3 and "text" not in ran.result


def test_a_wrong_kind_is_refused(site: Site) -> None:
    assert site.typed("statement").code == site.typed("statement all").code == 2
