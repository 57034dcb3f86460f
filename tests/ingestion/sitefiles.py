"""Site files of a test: written as they are given, and read."""

from __future__ import annotations

from ingestion.layout import Layout
from ingestion.sitefile import read_site_file


def write(folder, text, name="press-1.csv", encoding="utf-8"):
    path = folder / name
    path.write_bytes(text.encode(encoding))
    return path


def read(folder, text, layout=None, **options):
    return read_site_file(write(folder, text, **options), layout or Layout())
