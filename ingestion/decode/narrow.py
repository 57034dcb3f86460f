"""Narrow flat JSON, one sensor a message or a list of such: `{"asset":"pump-03","sensor":"temperature","ts":..,"value":71.2}`.

The name may also be called tag, metric, signal, name, point or measurement. Wide objects in between are read as well.
"""

from ingestion.decode.messages import Message, MessageDecoder, load_json
from ingestion.decode.rows import Row
from ingestion.settings import IngestSettings


class NarrowJson(MessageDecoder):
    """Decoder of one partition."""

    def read(self, message: Message) -> list[Row]:
        """See `MessageDecoder.read`."""
        content = load_json(message.value)
        items = content if isinstance(content, list) else [content]
        self.bounded(len(items))
        return [self.flat_row(item) for item in items]


def build(settings: IngestSettings) -> NarrowJson:
    """The decoder for one partition."""
    return NarrowJson(settings.decode, settings.event_time, settings.limits)
