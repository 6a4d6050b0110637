"""Shows what several commands tell a person: states, status reports, verifications, recoveries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from archiver.cli.output import table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from archiver.recovery.refill import Named, Refilled
    from archiver.status.report import Report
    from archiver.verify.finding import Verification


def state_of(row: dict[str, Any]) -> str:
    """Return the state and, where the recording waits, the reason."""
    return f"{row['state']}:{row['reason']}" if row["reason"] else str(row["state"])


def status_report(report: Report) -> str:
    """Return the report for a person: the sentence first, then a line for each provider, then the reasons."""
    from archiver import __version__
    from archiver.status.report import EDGE_NAMES, for_people

    lines = [f"{report.instance} · {report.at:%Y-%m-%d %H:%M} UTC · archiver {__version__}", report.sentence, ""]
    rows = []
    for each in report.providers:
        counts = each.counts
        nearest = counts.nearest_deadline
        rows.append(
            [
                each.provider,
                each.level.upper() if each.level.red else each.level.value,
                for_people(report.at - counts.poll_succeeded_at) + " ago" if counts.poll_succeeded_at else "never",
                each.covered_until.strftime("%Y-%m-%d %H:%M") if each.covered_until else None,
                counts.states.get("archived", 0),
                each.waiting,
                counts.states.get("absent", 0),
                counts.lost,
                for_people(nearest - report.at) if nearest else None,
            ]
        )
    head = [
        "provider",
        "state",
        "last poll",
        "covered to",
        "archived",
        "waiting",
        "no audio",
        "lost",
        "nearest deadline",
    ]
    lines.append(table(head, rows))
    if sum(report.runway):
        shown = "   ".join(f"{name} {count}" for name, count in zip(EDGE_NAMES, report.runway, strict=True))
        lines += ["", f"runway (waiting recordings by time left)   {shown}"]
    for each in report.providers:
        lines += [f"why  {each.provider}  {reason}" for reason in each.why]
        if (cost := each.outlook.storage_cost) is not None and cost.in_a_year:
            lines.append(f"cost  {each.provider}  its storage: {cost}")
    for concern in report.others:
        subject = concern.subject or "archive"
        lines.append(f"why  {subject}  {concern.line.removeprefix(f'{subject}: ')}")
    lines += _storages(report)
    if report.custody is not None:
        log = report.custody
        age = f"{for_people(report.at - log.published_at)} ago" if log.published_at else "never"
        waiting, published = f"{log.waiting} waiting", f"{log.published_size} published {age}"
        lines.append(f"custody  {log.leaves} events in the log, {waiting}; {published}")
        if log.refused:
            lines.append(
                f"custody  {log.refused} event(s) were REFUSED, not signed by our hosts   → archiver custody fsck"
            )
    lines.append(f"verified  {_verified(report)}")
    return "\n".join(lines)


def _storages(report: Report) -> Iterator[str]:
    """Yield the age of each storage's proof, and remarks on the storage beside its faults."""
    from datetime import datetime

    from archiver.status.report import for_people

    for name, state in sorted(report.storages.items()):
        if state.get("configured") and (probed_at := state.get("probed_at")) is not None:
            age = for_people(report.at - datetime.fromisoformat(str(probed_at)))
            word = "passed its probe" if state.get("trusted") else "last probed"
            yield f"storage  {name}  {word} {age} ago"
            if (read_at := state.get("oldest_reading_at")) is not None:
                age = for_people(report.at - datetime.fromisoformat(str(read_at)))
                yield f"storage  {name}  every copy read whole within the last {age}"
            remarks = state.get("remarks")
            yield from (f"storage  {name}  {each}" for each in (remarks if isinstance(remarks, list) else ()))


def _verified(report: Report) -> str:
    from archiver.status.report import for_people

    full, last = report.integrity.full, report.integrity.last
    said = "never in full   → archiver verify --all"
    if full is not None:
        said = f"all {full.recordings} recordings {for_people(report.at - full.finished_at)} ago"
    if last is not None and last != full:
        said += f"; {last.depth}, {last.recordings} recordings, {for_people(report.at - last.finished_at)} ago"
    found = ", ".join(f"{count} {kind}" for kind, count in sorted(report.integrity.failures.items()))
    return f"{said}; FOUND {found}   → archiver verify --all" if found else said


def verification(result: Verification) -> str:
    """Return a verification's result for a person."""
    lines = [
        f"custody   {result.events} events in {result.chains} chains, {result.leaves} leaves in the log",
        f"objects   {result.objects_read} read and re-hashed ({result.bytes_read} bytes), {result.opened} opened",
        f"locks     {result.locks} read back",
        f"catalogue {result.segments} segments",
    ]
    if result.findings:
        rows = [
            ["FAIL" if each in result.failures else "note", each.subject.removeprefix("rec:"), each.provider, each.storage,
             each.kind, each.detail]
            for each in result.findings
        ]  # fmt: skip
        lines += ["", table(["", "recording", "provider", "storage", "what", "detail"], rows)]
    lines += [f"not checked: {what} ({count})" for what, count in sorted(result.unchecked.items())]
    lines += [f"could not be read: {what} ({count})" for what, count in sorted(result.unreachable.items())]
    verdict = f"{len(result.failures)} failed" if result.failures else "no mismatch"
    lines += ["", f"{result.recordings} recordings: {verdict}"]
    return "\n".join(lines)


def refilled(found: Refilled) -> list[str]:
    """Return lines for a person on the parts of the journal that came back, and on the missing ones."""
    rows = dict(found.rows)
    copies = rows.pop("copies", 0)
    states = ", ".join(f"{number} {state}" for state, number in sorted(rows.items())) or "no recordings"
    return [
        f"{states}; {copies} copies, {found.private} private groups, from {found.segments} segments of the catalogue",
        *listed(found.findings, "finding(s): something is not what was signed"),
        *listed(
            found.unopened, "segment(s) are sealed for keys that are not here, and what they say of calls is missing: "
            "add them to encryption.identities, run again",
        ),
        *listed(found.uncatalogued, "recording(s) are archived, and no segment that was read has their call metadata"),
        *listed(found.unlogged, "recording(s) come from segments that the log does not tell of"),
        *listed(found.unfinished, "recording(s) were discovered and not archived: the next poll looks for them"),
    ]  # fmt: skip


def listed(named: Named, what: str) -> list[str]:
    """Return the count and the first ten names of one kind; nothing where there is none."""
    shown = [f"  {each}" for each in named.names[:10]]
    more = [f"  … {named.count - 10} more: -o json"] if named.count > 10 else []
    return [f"{named.count} {what}", *shown, *more] if named.count else []
