"""Failures a user can cause or must act on. Each carries the exit code the command line ends with."""


class IngestionError(Exception):
    """Base of all ingestion failures; the message is one line: what, which value, what was expected, what to do."""

    exit_code = 1


class BrokerUnavailable(IngestionError):
    """The broker could not be reached or did not answer within its time limit."""

    exit_code = 3


class BrokerStartFailed(IngestionError):
    """The embedded broker could not be started (port, disk, Java, jars)."""

    exit_code = 4


class InputDataError(IngestionError):
    """A file or folder the user named is missing, empty or not of the documented form."""

    exit_code = 5


class StorageError(IngestionError):
    """The data folder cannot be written or read (full, read-only, damaged file)."""

    exit_code = 6


class ContinuityError(IngestionError):
    """The topic no longer continues what is on disk (created again, retention passed us, log truncated)."""

    exit_code = 7
