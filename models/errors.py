"""Failures of fitting, exporting or loading a detector. Each carries the exit code of the command line."""


class ModelError(Exception):
    """Base of all model failures; the message is one line: what, which value, what was expected, what to do."""

    exit_code = 8


class NotEnoughData(ModelError):
    """Too few rows or sensors to fit or calibrate with."""

    exit_code = 9
