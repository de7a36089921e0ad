"""`provision doctor`: what this machine is, what blocks it, and what mends it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from provision.cli.session import JsonOption, ProgressOption, Session, Spoken, open_session
from provision.errors import ExitCode, ProvisionError, UsageError
from provision.result import ErrorItem, Result

if TYPE_CHECKING:
    from rich.console import Console

    from provision.events import Event
    from provision.host.findings import Check
    from provision.host.types import Host
    from provision.hub.checkup import EndpointReport

_HOST_FILE_LIMIT = 8 * 1024 * 1024
_MARKS = {"error": "✗", "crashed": "✗", "warning": "!", "info": "·", "ok": "✓", "skipped": "-"}


def doctor(
    json: JsonOption = False,
    list_checks: Annotated[bool, typer.Option("--list", help="List the checks and end.")] = False,
    only: Annotated[
        list[str] | None, typer.Option("--only", metavar="ID", help="Ask this check only; may be repeated.")
    ] = None,
    host: Annotated[
        Path | None, typer.Option("--host", metavar="FILE", help="Judge the machine described in FILE, not this one.")
    ] = None,
    python: Annotated[
        Path | None, typer.Option("--python", metavar="PATH", help="The Python the engine is for; default this one.")
    ] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown for an issue report.")] = False,
    include_identifiers: Annotated[
        bool, typer.Option("--include-identifiers", help="Leave home folder, user name and GPU UUIDs in the output.")
    ] = False,
    network: Annotated[bool, typer.Option("--network", help="Also ask the configured hub and ModelScope.")] = False,
    fix: Annotated[bool, typer.Option("--fix", help="Mend what needs no root and can be undone.")] = False,
    undo: Annotated[bool, typer.Option("--undo", help="With --fix: take everything back that --fix did.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="With --fix: print the plan and change nothing.")] = False,
    progress: ProgressOption = "auto",
) -> Spoken:
    """Find out what this machine can do, and name every blocker with the command that mends it."""
    from provision.host.doctor import CHECKS, choose, diagnose
    from provision.host.redact import redact, this_identity, without_secrets
    from provision.host.serial import host_to_data

    identity = this_identity()
    discreet = without_secrets if include_identifiers else lambda value: redact(value, identity)
    session = _open(json, progress, discreet)
    only = only or []
    wanted = choose(CHECKS, only)
    _check_combination(host=host, python=python, network=network, fix=fix, undo=undo, dry_run=dry_run, both=json and markdown)
    if list_checks:
        rows = [{"id": check.id, "title": check.title, "about": check.about} for check in wanted]
        return Spoken(result=Result(command="doctor", data={"checks": rows}), render=_render_list)
    mended = None
    try:
        if undo:
            mended = _undo(session)
            # A compiler that was chosen is no longer part of the settings.
            session = _open(json, progress, discreet)
        machine = _read_host(host) if host is not None else _look(session, python, remember=not fix)
        if fix and not undo:
            mended, machine = _fix(session, machine, python, only=only, dry_run=dry_run)
    except ProvisionError as error:
        error.message, error.hint = discreet(error.message), discreet(error.hint)
        raise
    reports = _ask_endpoints(session) if network else ()
    checks = [_about_network(row, reports, session) if network and row.id == "network" else row for row in CHECKS]
    diagnosis = diagnose(machine, only=only, checks=checks)
    data: dict[str, Any] = {
        "verdict": diagnosis.verdict,
        "host": host_to_data(machine, identifiers=include_identifiers),
        "findings": [finding.to_data() for finding in diagnosis.findings],
    }
    if network:
        data["network"] = [report.to_data() for report in reports]
    if mended is not None:
        data["fix"] = mended
    data = discreet(data)
    result = Result(command="doctor", data=data)
    if diagnosis.errors:
        result = replace(result, exit_code=ExitCode.FAILURE, status="error", errors=(_worst(data["findings"]),))
    return Spoken(result=result, render=_render_markdown if markdown else _render)


def _worst(findings: Sequence[Mapping[str, Any]]) -> ErrorItem:
    """The first error among the findings as they are shown, so that it tells no more than they do."""
    worst = next(finding for finding in findings if finding["status"] == "error")
    commands = worst["remedy"]["commands"] if worst["remedy"] is not None else []
    return ErrorItem(code=f"doctor-{worst['check']}", message=worst["summary"], hint=commands[0] if commands else "")


def _check_combination(
    *, host: Path | None, python: Path | None, network: bool, fix: bool, undo: bool, dry_run: bool, both: bool
) -> None:
    wrong = ""
    if (undo or dry_run) and not fix:
        wrong = "--undo and --dry-run go with --fix"
    elif fix and host is not None:
        wrong = "--fix mends this machine, --host judges another"
    elif host is not None and (network or python is not None):
        wrong = "--network and --python look at this machine, --host judges another"
    elif undo and dry_run:
        wrong = "--undo has no --dry-run"
    elif both:
        wrong = "--json and --markdown are two forms of the same answer"
    if wrong:
        raise UsageError(wrong, code="bad-option", hint="see: provision doctor --help")


def _open(json: bool, progress: str, discreet: Callable[[Any], Any]) -> Session:
    """A session whose progress tells no more than the answer will."""
    session = open_session(json=json, progress=progress)

    def report(event: Event) -> None:
        words = {row.name: getattr(event, row.name) for row in fields(event) if isinstance(getattr(event, row.name), str)}
        session.reporter(replace(event, **discreet(words)))

    return replace(session, reporter=report)


def _fix(
    session: Session, machine: Host, python: Path | None, *, only: Sequence[str], dry_run: bool
) -> tuple[dict[str, Any], Host]:
    """Plan, say the plan, carry it out, look again. `only` limits it to what these checks complain of."""
    from provision.engine.mending import apply
    from provision.engine.mends import plan_mends
    from provision.host.reader import Reader

    settings = session.settings
    folders = Reader(environ=settings.environ).path_folders()
    found = plan_mends(machine, toolkits_dir=str(settings.provision_home / "toolkits"), path_folders=folders)
    plan = [mend for mend in found if not only or set(only) & set(mend.checks)]
    said: dict[str, Any] = {"plan": [mend.to_data() for mend in plan], "done": [], "undone": []}
    if dry_run or not plan:
        return said, machine
    target = python or Path(sys.executable)
    said["done"] = list(apply(plan, python=target, settings=settings, reporter=session.reporter))
    # A chosen compiler is part of the settings from now on.
    return said, _look(replace(session, settings=open_session(json=True).settings), python, remember=False)


def _undo(session: Session) -> dict[str, Any]:
    from provision.engine.mending import undo

    return {"plan": [], "done": [], "undone": list(undo(settings=session.settings, reporter=session.reporter))}


def _ask_endpoints(session: Session) -> tuple[EndpointReport, ...]:
    """All endpoints at the same time, each with a limit."""
    from provision.host.side_by_side import Probes
    from provision.hub.checkup import EndpointReport, check_endpoint, endpoints_of

    settings = session.settings
    if settings.offline:
        return ()
    probes = Probes(reporter=session.reporter)
    running = [
        (endpoint, source, probes.start(endpoint, 45.0, lambda e=endpoint, s=source: check_endpoint(e, s, settings=settings)))  # type: ignore[misc]
        for endpoint, source in endpoints_of(settings)
    ]
    reports = []
    for endpoint, source, probe in running:
        report = probe.get()
        problem = probe.failure or "no answer"
        reports.append(report or EndpointReport(endpoint=endpoint, source=source, problem=problem))
    probes.end()
    return tuple(reports)


def _about_network(row: Check, reports: tuple[EndpointReport, ...], session: Session) -> Check:
    from provision.hub.checks_network import judge_endpoints

    offline = session.settings.offline
    return replace(row, judge=lambda host: judge_endpoints(reports, offline=offline))


def _look(session: Session, python: Path | None, *, remember: bool) -> Host:
    from provision.host.probe import probe_host

    return probe_host(session.settings, python=python, reporter=session.reporter, remember=remember)


def _read_host(file: Path) -> Host:
    from provision.host.serial import host_from_json

    try:
        with file.open("rb") as stream:
            content = stream.read(_HOST_FILE_LIMIT + 1)
    except OSError as error:
        raise UsageError(
            f"cannot read {file}: {error.strerror}",
            code="bad-host-file",
            hint="make the file on that machine with: provision doctor --json > machine.json",
        ) from None
    if len(content) > _HOST_FILE_LIMIT:
        raise UsageError(
            f"{file} is too long to describe a machine",
            code="bad-host-file",
            hint="make the file on that machine with: provision doctor --json > machine.json",
        )
    return host_from_json(content)


def _render_list(console: Console, data: Mapping[str, Any]) -> None:
    for row in data["checks"]:
        console.print(f"{row['id']:<16} {row['title']}", markup=False)


def _render(console: Console, data: Mapping[str, Any]) -> None:
    _say(console, data["verdict"], style="bold")
    if "fix" in data:
        _render_fix(console, data["fix"])
    for finding in data["findings"]:
        if finding["status"] not in ("ok", "skipped"):
            _render_finding(console, finding)
    fine = [finding for finding in data["findings"] if finding["status"] == "ok"]
    if fine:
        _say(console, "")
    for finding in fine:
        _say(console, f"{_MARKS['ok']} {finding['check']}: {finding['summary']}", rest="    ")
    left_out = [finding["check"] for finding in data["findings"] if finding["status"] == "skipped"]
    if left_out:
        _say(console, f"{_MARKS['skipped']} do not concern this machine: {', '.join(left_out)}", rest="    ", style="dim")


def _render_fix(console: Console, mended: Mapping[str, Any]) -> None:
    done = set(mended["done"])
    for row in mended["plan"]:
        mark = "mended" if row["title"] in done else "would do"
        _say(console, f"{mark}: {row['title']} ({row['because']})", rest="    ")
    for title in mended["undone"]:
        _say(console, f"undone: {title}", rest="    ")
    if not mended["plan"] and not mended["undone"]:
        _say(console, "nothing to mend without root, and nothing to undo")
    elif done:
        from provision.cli.called import as_called

        _say(console, as_called("take it back with: provision doctor --fix --undo"))


def _render_finding(console: Console, finding: Mapping[str, Any]) -> None:
    from provision.cli.called import as_called

    _say(console, "")
    _say(console, f"{_MARKS[finding['status']]} {finding['check']}: {finding['summary']}", rest="    ")
    for line in finding["detail"].splitlines():
        _say(console, f"    {line}", rest="    ", style="dim")
    remedy = finding["remedy"]
    if remedy is None:
        return
    _say(console, f"  → {remedy['text']}", rest="    ")
    for line in (*remedy["commands"], *([remedy["url"]] if remedy["url"] else [])):
        # To be copied, so never wrapped.
        shown = as_called("".join(letter if letter.isprintable() else "?" for letter in line))
        console.print(f"      {shown}", markup=False, style="bold", soft_wrap=True)


def _say(console: Console, text: str, *, rest: str = "", style: str = "") -> None:
    """One paragraph, its further lines indented by `rest`."""
    from textwrap import fill

    # Names come from drivers and files: a terminal must not obey what they contain.
    text = "".join(letter if letter.isprintable() else " " for letter in text)
    # rich pads wrapped lines with blanks, which a paste then carries along.
    console.print(fill(text, console.width, subsequent_indent=rest), markup=False, style=style, soft_wrap=True)


def _render_markdown(console: Console, data: Mapping[str, Any]) -> None:
    from provision.host.report import markdown_report

    console.print(markdown_report(data), markup=False, soft_wrap=True)
