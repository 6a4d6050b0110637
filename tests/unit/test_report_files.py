"""The report's files are whole, their owner's alone, and follow no link."""

from __future__ import annotations

from pathlib import Path

from archiver.compliance.files import write


def test_report_follows_no_link_and_is_its_owners_alone(tmp_path: Path) -> None:
    victim, folder = tmp_path / "victim", tmp_path / "reports"
    victim.write_text("mine")
    folder.mkdir()
    (folder / ".report-2026-10.json.part").symlink_to(victim)
    (folder / "report-2026-10.json").symlink_to(victim)
    for content in (b"first", b"second"):
        write(folder, {"report-2026-10.json": content})
        made = folder / "report-2026-10.json"
        assert (made.is_symlink(), made.read_bytes(), made.stat().st_mode & 0o777) == (False, content, 0o600)
    assert victim.read_text() == "mine"
    assert [each.name for each in folder.iterdir()] == ["report-2026-10.json"]
