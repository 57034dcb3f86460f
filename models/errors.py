"""Failures of fitting, exporting or loading a detector. Each carries the exit code of the command line."""


class ModelError(Exception):
    """Base of all model failures; the message is one line: what, which value, what was expected, what to do."""

    exit_code = 8


class NotEnoughData(ModelError):
    """Too few rows or sensors to fit or calibrate with."""

    exit_code = 9


class InvalidModel(ModelError):
    """A parameter of an architecture or detector is unknown or impossible, or weights do not fit their architecture."""


class InvalidInput(ModelError):
    """Values handed to a detector have the wrong shape, type or length."""


class DetectorExists(ModelError):
    """The version to be written is already there; a published detector never changes."""


class DetectorUnreadable(ModelError):
    """A stored detector is missing, incomplete or of an unknown format."""
