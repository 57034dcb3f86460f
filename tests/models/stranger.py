"""An interpreter as one has it who does not have this project."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_WITHOUT_THE_PROJECT = """
import sys
sys.path.append({packages!r})
try:
    import models
    sys.exit("the project is on the path")
except ImportError:
    pass
import numpy as np, tensorflow as tf
"""


def run_as_a_stranger(code: str, folder: Path, *arguments: str) -> None:
    """Run `code` in `folder` with `sys`, numpy as `np` and TensorFlow as `tf`, and nothing of this project on the path.

    The installed packages are there, but not the project: its finder is not installed under -S. Fails with what was written if it fails.
    """
    packages = next(path for path in sys.path if path.endswith("site-packages"))
    whole = _WITHOUT_THE_PROJECT.format(packages=packages) + code
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", whole, *arguments], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
