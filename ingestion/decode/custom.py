"""A user's own decoder, named `module:function`.

The function is called as `function(value: bytes, key: bytes | None, topic: str)` for each message and returns one object
or a list of objects in the flat JSON form. What it raises rejects that message as `decoder_failed`.
"""

from collections.abc import Callable
from importlib import import_module
from typing import Any

from ingestion.decode.messages import Message, MessageDecoder
from ingestion.decode.rows import Row
from ingestion.errors import InputDataError
from ingestion.settings import IngestSettings


class Custom(MessageDecoder):
    """Decoder of one partition around a user's function."""

    function: Callable[[bytes, bytes | None, str], Any]

    def read(self, message: Message) -> list[Row]:
        """See `MessageDecoder.read`."""
        found = self.function(message.value, message.key, message.topic)
        items = list(found) if isinstance(found, (list, tuple)) else [found]
        self.bounded(len(items))
        return [self.flat_row(item) for item in items]


def build(settings: IngestSettings) -> Custom:
    """The decoder for one partition. Raises InputDataError if the function cannot be loaded."""
    name = settings.decode.format
    module, _, attribute = name.partition(":")
    try:
        function = getattr(import_module(module), attribute)
    except Exception as error:  # the user's module may fail in any way while it is imported
        raise InputDataError(
            f"format = {name!r}: {type(error).__name__}: {error}; expected an importable module:function"
        ) from error
    if not callable(function):
        raise InputDataError(f"format = {name!r}: found {type(function).__name__}, expected a function")
    decoder = Custom(settings.decode, settings.event_time, settings.limits)
    decoder.function = function
    return decoder
