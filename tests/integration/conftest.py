"""Fixtures of the integration tests."""

from pathlib import Path

import pytest

from tests.integration.scoring import export_detector


@pytest.fixture(scope="session")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The version folder of a small exported model."""
    return export_detector(tmp_path_factory.mktemp("detectors") / "fleet" / "7")
