"""`assess` as its user runs it: no home, no study, any number of designs side by side."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from allocator import design_report, states, t_test
from allocator.assess_words import words_about
from allocator.cli import run
from allocator.cli.assess import _many
from allocator.design import RandomizationDesign
from allocator.design_report import report_on
from allocator.simulate import sequences_of

BLOCKS = "block_sizes = [4, 6]"
TOML = 'format = "allocator-design/1"\nmethod = "{}"\n{}\nlength = {}\n[ratio]\n{}\n'


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    write(tmp_path / "blocks.toml", "permuted-block", BLOCKS)
    write(tmp_path / "stick.toml", "big-stick", "limit = 3")
    write(tmp_path / "coin.toml", "complete")
    write(tmp_path / "three.toml", "urn", "alpha = 1\nbeta = 1", ratio="A = 1\nB = 1\nC = 1")
    return tmp_path


def write(file: Path, method: str, keys: str = "", length: int = 20, ratio: str = "A = 1\nB = 1") -> None:
    file.write_text(TOML.format(method, keys, length, ratio), encoding="utf-8")


def told(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> Any:
    assert run(["--json", "assess", *arguments]) == code
    return json.loads(capsys.readouterr().out)


@pytest.mark.requirement("G05")
@pytest.mark.usefixtures("folder")
def test_the_object_of_each_design(capsys: pytest.CaptureFixture[str]) -> None:
    blocks, stick = told(capsys, "blocks.toml", "stick.toml", "--enrollment", "10")["designs"]
    assert (blocks["method"], blocks["block_sizes"], blocks["n"], blocks["exact"]) == (
        "permuted-block",
        [4, 6],
        10,
        True,
    )
    assert round(blocks["correct_guesses"], 3) == 0.679 and round(blocks["certain"], 3) == 0.06
    assert round(stick["expected_final_imbalance"], 4) == 1.332 and round(stick["expected_max_imbalance"], 4) == 2.6523
    assert blocks["excess_guesses"] == blocks["correct_guesses"] - blocks["blind_guess"]
    assert sum(item["probability"] for item in blocks["final_imbalance"]) == pytest.approx(1)
    assert stick["sequences"] == 560 and stick["smallest_p"] == pytest.approx(2 / 1024)
    assert stick["bias"]["selection_size"]["exact"] and round(stick["bias"]["selection_size"]["value"], 3) == 0.06
    assert round(stick["bias"]["difference"]["value"], 2) == 0.38


@pytest.mark.requirement("G05")
@pytest.mark.usefixtures("folder")
def test_bias_scales_as_it_is_given(capsys: pytest.CaptureFixture[str]) -> None:
    (stick,) = told(capsys, "stick.toml", "--enrollment", "10", "--eta", "0.5", "--trend", "0")["designs"]
    assert round(stick["bias"]["difference"]["value"], 2) == 0.19
    assert stick["bias"]["trend_size"]["value"] == pytest.approx(0.05)


@pytest.mark.usefixtures("folder")
def test_all_of_the_list_without_an_enrollment(capsys: pytest.CaptureFixture[str]) -> None:
    (coin,) = told(capsys, "coin.toml")["designs"]
    assert coin["n"] == 20 and coin["sequences"] == 2**20


@pytest.mark.requirement("G05")
@pytest.mark.usefixtures("folder")
def test_strata_and_the_study_whole(capsys: pytest.CaptureFixture[str]) -> None:
    (blocks,) = told(capsys, "blocks.toml", "--strata", "5,5")["designs"]
    assert [part["n"] for part in blocks["strata"]] == [5, 5] and blocks["n"] == 10
    first, second = blocks["strata"]
    assert blocks["correct_guesses"] == pytest.approx((first["correct_guesses"] + second["correct_guesses"]) / 2)
    assert blocks["entropy_bits"] == pytest.approx(first["entropy_bits"] * 2)
    assert blocks["sequences"] == first["sequences"] ** 2 and blocks["expected_max_imbalance"] is None
    assert blocks["smallest_p"] == pytest.approx(first["smallest_p"] ** 2 / 2)  # exchanged in both strata at once


@pytest.mark.usefixtures("folder")
def test_more_arms_have_no_t_test(capsys: pytest.CaptureFixture[str]) -> None:
    (three,) = told(capsys, "three.toml", "--enrollment", "6")["designs"]
    assert three["exact"] and three["bias"]["difference"] is None and three["bias"]["selection_size"] is None


@pytest.mark.requirement("G05")
@pytest.mark.usefixtures("folder")
def test_the_table_can_be_pasted(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["assess", "blocks.toml", "stick.toml", "coin.toml", "--enrollment", "10"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "The first 10 entries, ratio 1:1. Exact."
    assert lines[2].split() == ["permuted-block", "big-stick", "complete"] and lines[3].split() == ["4,6", "3"]
    assert lines[4].split()[-3:] == ["67.9%", "56.1%", "50.0%"]
    assert max(map(len, lines)) <= 100
    assert any(line.startswith("  bad ") and "12.2% of all assignments" in line for line in lines)


@pytest.mark.usefixtures("folder")
def test_what_is_not_exact_is_said_to_be_simulated(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(states, "MAX_STATES", 10)
    (three,) = told(capsys, "three.toml", "--enrollment", "12")["designs"]
    assert three["exact"] is False and three["simulated"] == 10_000
    assert three["standard_errors"]["correct_guesses"] > 0 and three["certain"] is None
    assert run(["assess", "three.toml", "--enrollment", "12"]) == 0
    out = capsys.readouterr().out
    assert "~ is simulated" in out and " ~" in out and "standard error" in out
    assert run(["assess", "three.toml", "--strata", "6,6"]) == 0
    assert "assess each stratum by itself" in capsys.readouterr().out
    unseen = ("three.toml", "--strata", "6,6", "--plot", "x.svg")
    assert told(capsys, *unseen, code=2)["error"]["code"] == "nothing-to-plot"


@pytest.mark.usefixtures("folder")
def test_a_figure_of_bias_that_is_simulated_is_announced(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(t_test, "MAX_MERGED", 20)
    t_test._summaries.cache_clear()
    assert run(["assess", "coin.toml", "--enrollment", "14"]) == 0
    t_test._summaries.cache_clear()
    first, *_, out = capsys.readouterr().out.partition("\n")
    assert first == "The first 14 entries, ratio 1:1. Exact where nothing else is said; ~ is simulated."
    assert "bias of the difference, eta 1" in out and " ~" in out


@pytest.mark.usefixtures("folder")
def test_a_number_of_sequences_that_fills_pages_is_shown_short_and_null_in_json(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python itself refuses to write an integer of more than 4,300 digits."""
    assert 2**design_report.MAX_BITS < 10**4_300
    monkeypatch.setattr(design_report, "MAX_BITS", 19)
    few, many = (told(capsys, "coin.toml", "--enrollment", n)["designs"][0]["sequences"] for n in ("18", "20"))
    assert (few, many) == (2**18, None)
    assert [_many(count) for count in (2**15_000, 9_999_999, 10**7, 10**22 - 1, None)] == [
        "2.8e4515",
        "9999999",
        "1.0e7",
        "1.0e22",
        "",
    ]


@pytest.mark.requirement("G05")
@pytest.mark.parametrize("suffix, magic", [("svg", b"<?xml"), ("png", b"\x89PNG"), ("pdf", b"%PDF")])
def test_balance_against_predictability_as_a_picture(
    folder: Path, capsys: pytest.CaptureFixture[str], suffix: str, magic: bytes
) -> None:
    picture = folder / f"designs.{suffix}"
    assert run(["assess", "blocks.toml", "stick.toml", "--enrollment", "10", "--plot", str(picture)]) == 0
    assert picture.read_bytes().startswith(magic)
    capsys.readouterr()
    assert told(capsys, "blocks.toml", "--plot", str(picture), code=2)["error"]["code"] == "file-exists"


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    "arguments, code",
    [
        (("blocks.toml", "--enrollment", "21"), "not-assessed"),
        (("blocks.toml", "--enrollment", "-3"), "not-assessed"),
        (("blocks.toml", "--enrollment", "0"), "not-assessed"),
        (("blocks.toml", "--plot", "x.bmp"), "plot-format"),
        (("blocks.toml", "--strata", "5,x"), "strata"),
        (("blocks.toml", "--strata", "5,0"), "strata"),
        (("blocks.toml", "--strata", "5,5", "--enrollment", "11"), "strata"),
        (("blocks.toml", "--strata", ",".join("1" * 51)), "strata"),
        (("blocks.toml", "--strata", "5,21"), "not-assessed"),
        (("blocks.toml", "--eta", "nan"), "bias"),
        (("blocks.toml", "--trend", "10.1"), "bias"),
        (("blocks.toml", "--plot", "nowhere/x.svg"), "no-folder"),
        (("nothing.toml",), "cannot-read"),
    ],
)
def test_a_wrong_call_is_answered_in_words(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], code: str
) -> None:
    assert told(capsys, *arguments, code=2)["error"]["code"] == code


@pytest.mark.requirement("G05")
@pytest.mark.parametrize(
    "method, keys, said",
    [
        ("permuted-block", {"block_sizes": (2,)}, "can never reach p < 0.05"),
        ("permuted-block", {"block_sizes": (2,)}, "50.0% of all assignments, 5.0 of 10, are certain"),
        ("permuted-block", {"block_sizes": (10,)}, "Always ends as balanced as 10 participants can be"),
        ("complete", {}, "guesses no better than one who sees none"),
        ("complete", {}, "nothing limits the imbalance"),
        ("complete", {}, "No assignment is certain in advance"),
        ("big-stick", {"limit": 3}, "on the way never above 3"),
        ("permuted-block", {"block_sizes": (4,)}, "t-test of arms that do not differ rejects in 12."),
    ],
)
def test_words_follow_the_figures(method: str, keys: dict[str, Any], said: str) -> None:
    design = RandomizationDesign(method=method, length=10, ratio=(("A", 1), ("B", 1)), **keys)
    assert any(said in words for _, words in words_about(report_on(design, 10)))


@pytest.mark.requirement("G05")
def test_what_limits_the_imbalance_is_not_said_to_be_without_limit() -> None:
    def words(method: str, n: int, shares: tuple[int, int], **keys: Any) -> str:
        design = RandomizationDesign(method=method, length=20, ratio=tuple(zip("AB", shares, strict=True)), **keys)
        return " ".join(said for _, said in words_about(report_on(design, n)))

    for n, shares in ((4, (1, 1)), (10, (2, 3))):
        assert "nothing limits the imbalance" in words("complete", n, shares)
    for method, keys in (("big-stick", {"limit": 3}), ("random-allocation-rule", {})):
        assert "nothing limits" not in words(method, 4, (1, 1), **keys)
    assert "hardly better (by 0.1 percentage points)" in words("urn", 20, (1, 1), alpha=1000, beta=1)


def test_fewer_sequences_are_simulated_where_each_takes_long(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hundred = tuple((f"A{arm}", 1) for arm in range(100))
    assert sequences_of(RandomizationDesign(method="complete", length=20, ratio=hundred), 20) == 400
    three = RandomizationDesign(method="permuted-block", length=300, ratio=hundred[:3], block_sizes=(300, 600))
    assert [sequences_of(three, n) for n in (1, 20, 300)] == [7407, 370, 200]
    write(folder / "more.toml", "complete", ratio="\n".join(f"A{arm} = 1" for arm in range(101)))
    assert told(capsys, "more.toml", code=2)["error"]["code"] == "design-file"
