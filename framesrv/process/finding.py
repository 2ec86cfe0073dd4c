"""What a check of the host has found: one thing that was looked at, and what is to be said of it."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import click

from framesrv.log import mask, shown


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        name: of the thing.
        status: the exit status that it alone calls for: 0 well, 1 wrong, 2 wrongly configured.
        message: a sentence.
    """

    name: str
    status: int
    message: str

    @property
    def ok(self) -> bool:
        """Whether it is as it must be."""
        return self.status == 0

    def to_json(self) -> dict[str, Any]:
        """As ``check --json`` shows it; without secrets."""
        return {"name": self.name, "ok": self.ok, "message": mask(self.message)}

    @classmethod
    def from_json(cls, fields: Any) -> "Finding":
        """What `to_json` gave. Raises KeyError or TypeError for anything else."""
        return cls(str(fields["name"]), 0 if fields["ok"] else 1, str(fields["message"]))


def echo(findings: Iterable[Finding]) -> None:
    """Prints them, a line each."""
    for finding in findings:
        mark = click.style("ok   ", fg="green") if finding.ok else click.style("WRONG", fg="red")
        click.echo(f"{mark}  {shown(finding.name)}: {shown(finding.message)}")
