"""The model card: what a version is and what was measured of it, in Markdown. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from infra.evidence.document import data, text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from infra.evidence.checklist import Verdict
    from infra.evidence.document import Document
    from infra.evidence.seal import Seal


def render(document: Document, verdicts: Sequence[Verdict], sealed: Seal) -> str:
    """The card's text."""
    machine, versions, measured = document["machine"], document["versions"], data(document)
    lines = [
        f"# {text(document, 'model')} version {text(document, 'version')}",
        "",
        f"- artifact `{text(document, 'digest')}`",
        f"- evaluated {text(document, 'evaluatedAt')} on {measured['rows']} rows of {measured['source']} "
        f"(target `{measured['target']}`, SHA-256 `{measured['sha256']}`)",
        f"- machine: {machine['processor']}, {machine['cores']} cores, {machine['memoryBytes'] / 2**30:.0f} GiB, "
        f"{machine['system']}",
        f"- versions: {', '.join(f'{name} {version}' for name, version in sorted(versions.items()))}",
        f"- evidence SHA-256 `{sealed.sha256}`, signed by `{sealed.signer}`",
        "",
        *table(verdicts),
        "",
        "Verdicts are those of the bounds that the evaluation was given. A preview recomputes them from the figures.",
    ]
    return "\n".join(lines) + "\n"


def table(verdicts: Sequence[Verdict]) -> list[str]:
    """A checklist as lines of a Markdown table."""
    rows = [
        f"| {verdict.item} | {'pass' if verdict.passed else '**FAIL**'} | {_cell(verdict.shown)} "
        f"| {_cell(verdict.bound)} | {'' if verdict.passed else _cell(verdict.remedy)} |"
        for verdict in verdicts
    ]
    return ["| item | | found | bound | what to do |", "|---|---|---|---|---|", *rows]


def _cell(content: str) -> str:
    return content.replace("|", "\\|").replace("\n", " ")
