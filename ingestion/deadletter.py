"""What cannot be kept goes to a topic of its own, with where it came from and why it could not be kept."""

from dataclasses import dataclass, replace

LETTER_BYTES = 16 << 20
CUT_BYTES = 64 << 10


@dataclass(frozen=True)
class Letter:
    """One message to set aside: destination, original bytes, where it came from, which group read it and why it could not be kept."""

    destination: str
    topic: str
    topic_id: str
    partition: int
    offset: int
    value: bytes | None
    stage: str
    reason: str
    message: str
    group: str
    late_rows: int = 0
    cut_from: int = 0

    @property
    def size(self) -> int:
        """Bytes of the original."""
        return len(self.value or b"")

    def cut(self) -> "Letter":
        """The first 64 KiB, for a topic that refuses more; a header says how long the original is."""
        if self.size <= CUT_BYTES:
            return self
        return replace(self, value=(self.value or b"")[:CUT_BYTES], cut_from=self.size)

    @property
    def key(self) -> bytes:
        """`topic-partition-offset`."""
        return f"{self.topic}-{self.partition}-{self.offset}".encode()

    @property
    def headers(self) -> list[tuple[str, bytes]]:
        """Coordinates and cause as text headers."""
        names = ("topic", "topic_id", "partition", "offset", "stage", "reason", "message", "group")
        cut = [("cut_from_bytes", str(self.cut_from).encode())] if self.cut_from else []
        # Half a surrogate pair, as the text of a user's own decoder may hold it, has no UTF-8.
        texts = [(name, str(getattr(self, name)).encode(errors="backslashreplace")) for name in names]
        return texts + cut
