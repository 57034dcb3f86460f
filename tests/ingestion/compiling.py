"""Tests of the compiled reader run wherever it can be had: where there is a compiler, its absence is a failure and no reason to skip."""

import shutil

import pytest

from ingestion import native

COMPILER = shutil.which("cc")
compiled = pytest.mark.skipif(
    native.library() is None and COMPILER is None,
    reason="no C compiler where the package was installed: Arrow reads everything",
)
