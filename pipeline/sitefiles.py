"""Site files for a command: read, with what was tolerated or passed over told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ingestion.layout import Layout
from ingestion.sitefile import SiteFile, read_site_dir, unread
from pipeline.remarks import listed, together


def read_told(folder: Path, layout: Layout, say: Callable[[str], None]) -> dict[str, SiteFile]:
    """By site the files of a folder, as `read_site_dir` reads them; remarks on them, and data that is in no form that is read, are said."""
    files = read_site_dir(folder, layout)
    if passed_over := unread(folder):
        say(f"not read: {listed(passed_over)}; a site's file is .csv or .parquet, unpacked")
    for line in together((file.site, note) for file in files.values() for note in file.notes):
        say(line)
    return files
