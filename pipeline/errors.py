"""Failures of the pipeline. Each carries the exit code of the command line (see docs/exit-codes.md)."""


class PipelineError(Exception):
    """Base of all pipeline failures; the message is one line: what, which value, what was expected, what to do."""

    exit_code = 1


class ConfigError(PipelineError):
    """A configuration key is unknown, of the wrong form, or contradicts another."""

    exit_code = 2


class TrainingFailed(PipelineError):
    """Training could not go on (no site left, all updates refused, runtime lost)."""

    exit_code = 10


class NothingToDo(PipelineError):
    """There is no data to work on; not an error of the program, but nothing was produced."""

    exit_code = 11
