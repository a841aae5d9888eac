"""`check`: hold a protocol against its registry record; writes nothing."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import click

from allocator.cli.call import Call, pass_call
from allocator.errors import AllocatorError
from allocator.text import shown

if TYPE_CHECKING:
    from allocator.protocol_check import Finding
    from allocator.study import Study

_LEVELS = {"block": "BLOCKS ACTIVATION", "warn": "WARNING", "info": "NOTE"}


@click.command()
@click.argument("study_file", metavar="STUDY.toml", type=click.Path(path_type=Path))
@click.option("--design", "design_file", metavar="DESIGN.toml", type=click.Path(path_type=Path), help="Restricted.")
@click.option("--registry", metavar="FILE.json", type=click.Path(path_type=Path), help="The registry's record.")
@pass_call
def check(call: Call, study_file: Path, design_file: Path | None, registry: Path | None) -> int:
    """Lint the protocol, and find where it and its registry record contradict each other.

    Exit code 1 while a blocking finding is undecided.
    """
    from allocator.home import read_input
    from allocator.protocol_check import check_protocol, parse_registry
    from allocator.study import MAX_FILE
    from allocator.toml_files import read_design, read_study

    study = read_study(study_file.name, read_input(study_file, limit=MAX_FILE))
    design = read_design(design_file.name, read_input(design_file, limit=MAX_FILE)) if design_file else None
    record = parse_registry(read_input(registry, limit=MAX_FILE)) if registry else None
    findings = check_protocol(study, record, design)
    decided = _decided(call, study)
    blockers = [f.id for f in findings if f.level == "block" and f.id not in decided]
    result = {"findings": [f.as_json(f.id in decided) for f in findings], "blockers": len(blockers)}
    call.show(result, findings_text(findings, decided, blockers))
    return 1 if blockers else 0


def _decided(call: Call, study: Study) -> set[str]:
    """Findings decided in the home, when this very study is opened there."""
    try:
        with call.service() as service:
            same = service.study.fingerprint == study.fingerprint
            return set(service.history.decisions()) if same else set()
    except AllocatorError:
        return set()


def findings_text(findings: tuple[Finding, ...], decided: set[str], blockers: list[str]) -> str:
    """The findings for the eye, level by level, each with its quotes."""
    lines = []
    for finding in findings:
        mark = "  (decided)" if finding.id in decided else ""
        lines.append(f"{finding.id}  {_LEVELS[finding.level]}{mark}")
        lines += textwrap.wrap(shown(finding.message), 92, initial_indent="     ", subsequent_indent="     ")
        for quote in finding.quotes:
            lines += textwrap.wrap(f"“{shown(quote)}”", 92, initial_indent="     | ", subsequent_indent="     | ")
        lines.append("")
    lines.append(f"{len(findings)} findings; {len(blockers)} block activation until they are decided and signed.")
    return "\n".join(lines)
