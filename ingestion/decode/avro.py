"""Avro as schema-registry clients write it: a zero byte, the schema id as four bytes big-endian, then the Avro body.

The record's fields mean what they mean in flat JSON: time, asset, seq, quality, every other number a sensor.
"""

import decimal
from io import BytesIO
from typing import Any

import fastavro

from ingestion.decode.messages import Message, MessageDecoder
from ingestion.decode.registry import Registry
from ingestion.decode.rows import Refused, Row
from ingestion.settings import DecodeRules, EventTimeRules, IngestSettings, Limits


class Avro(MessageDecoder):
    """Decoder of one partition. Raises BrokerUnavailable from `decode` when the registry does not answer."""

    def __init__(self, rules: DecodeRules, times: EventTimeRules, limits: Limits) -> None:
        super().__init__(rules, times, limits)
        self._registry = Registry(rules.schema_registry)

    def read(self, message: Message) -> list[Row]:
        """See `MessageDecoder.read`."""
        value = message.value
        if len(value) < 5 or value[0] != 0:
            raise Refused("not_avro", "expected a zero byte and a schema id of four bytes")
        schema = self._registry.schema(int.from_bytes(value[1:5], "big"))
        body = BytesIO(value[5:])
        try:
            found: Any = fastavro.schemaless_reader(body, schema, None)
        except (EOFError, ValueError, TypeError, KeyError, IndexError, OverflowError, MemoryError) as error:
            raise Refused("not_avro", f"{type(error).__name__}: {error}"[:200]) from None
        except (StopIteration, RecursionError, ArithmeticError) as error:
            raise Refused("not_avro", type(error).__name__) from None
        if body.read(1):
            raise Refused("not_avro", "bytes are left behind the record")
        return [self.flat_row({name: _number(raw) for name, raw in found.items()})]


def _number(raw: Any) -> Any:
    return float(raw) if isinstance(raw, decimal.Decimal) else raw


def build(settings: IngestSettings) -> Avro:
    """The decoder for one partition. Raises InputDataError without a usable `schema_registry`."""
    return Avro(settings.decode, settings.event_time, settings.limits)
