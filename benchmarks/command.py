"""What the command lines of the benchmarks have in common."""

from __future__ import annotations

import argparse
from pathlib import Path


def command_line(description: str | None, *, data: bool = False) -> argparse.ArgumentParser:
    """A parser with `--json`, and `--data` where a benchmark needs the raw public sets; the description is shown as it is written."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    if data:
        parser.add_argument("--data", type=Path, required=True, help="folder with the raw public sets")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser
