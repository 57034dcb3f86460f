"""CSV lines: with a header in the message (`timestamp,asset,temperature,vibration`), or narrow without one.

Without a header three fields are time, sensor, value and four are time, asset, sensor, value. Fields are separated by
comma, semicolon or tab; with a semicolon or tab the decimal comma is understood. An empty field is a missing value.
"""

import csv

from ingestion.decode.messages import Message, MessageDecoder, asset_text
from ingestion.decode.rows import TIME_FIELDS, Refused, Row
from ingestion.settings import IngestSettings

_NARROW = {3: ("timestamp", "sensor", "value"), 4: ("timestamp", "asset", "sensor", "value")}
_SENSOR = ("sensor", "tag", "metric", "signal")


class CsvLines(MessageDecoder):
    """Decoder of one partition; every message stands alone, so a restart anywhere reads the same."""

    def read(self, message: Message) -> list[Row]:
        """See `MessageDecoder.read`."""
        try:
            text = message.value.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise Refused("not_csv", f"not UTF-8 at byte {error.start}") from None
        lines = [line for line in text.splitlines() if line.strip()]
        if not lines or "\0" in text:
            raise Refused("not_csv", "no line of text")
        self.bounded(len(lines))
        mark = next((m for m in ("\t", ";") if m in lines[0]), ",")
        try:
            table = list(csv.reader(lines, delimiter=mark, strict=True))
        except csv.Error as error:
            raise Refused("not_csv", str(error)[:200]) from None
        header = [name.strip() for name in table[0]]
        if any(name in TIME_FIELDS for name in header):
            table = table[1:]
        elif len(header) in _NARROW:
            header = list(_NARROW[len(header)])
        else:
            raise Refused(
                "not_csv", f"{len(header)} fields and no header with a time: cannot tell what they are"
            )
        if len(set(header)) != len(header):
            raise Refused("duplicate_key", "a column name appears twice in the header")
        return [self._row(header, fields, mark) for fields in table]

    def _row(self, header: list[str], fields: list[str], mark: str) -> Row:
        if len(fields) != len(header):
            raise Refused("not_csv", f"a line of {len(fields)} fields, expected {len(header)}")
        item = {name: field.strip() for name, field in zip(header, fields, strict=True) if name}
        time = next((item.pop(name) for name in TIME_FIELDS if name in item), None)
        row = Row(
            time,
            asset_text(item.pop("asset", None)),
            self.whole(item.pop("seq", None) or None, "seq", 63),
            self.whole(item.pop("quality", None) or None, "quality", 15),
        )
        sensor = next((name for name in _SENSOR if name in item), None)
        if sensor is not None and "value" in item:
            item = {item[sensor]: item["value"]}
        for name, field in item.items():
            text = field if mark == "," else field.replace(",", ".")
            self.put(row, name, (text or None) if name in self.rules.states else _number(text))
        return row


def _number(text: str) -> float | str | None:
    """A field's number (the format's own notation, no repair to be counted), None if it is empty; any other text as it is."""
    try:
        return float(text) if text.isascii() and "_" not in text else text
    except ValueError:
        return text or None


def build(settings: IngestSettings) -> CsvLines:
    """The decoder for one partition."""
    return CsvLines(settings.decode, settings.event_time, settings.limits)
