"""Alias tables by Kafka offset: which name and data type an alias had when a given message was written.

A restart reads messages again that came before births already known, so a table is looked up by offset and the last few
of each device are kept: reading again resolves every message as it was resolved the first time.
"""

from typing import Any

from ingestion.decode.rows import Refused

Table = dict[str, list[Any]]
KEPT = 8
_MAX_ALIASES = 200_000
_MAX_DEVICES = 5_000


class Births:
    """Per device (`group/node` or `group/node/device`) a list of `[offset, {alias: [name, data type]}]`, offsets ascending."""

    def __init__(self, saved: dict[str, list[list[Any]]] | None = None) -> None:
        self.tables: dict[str, list[list[Any]]] = saved or {}
        self.changed = False
        self._size = sum(len(entry[1]) for known in self.tables.values() for entry in known)

    def learn(self, device: str, offset: int, table: Table) -> None:
        """Take over a birth. A birth that contradicts what is kept for its offset ends what was kept behind it.

        Raises Refused (`too_many_births`).
        """
        known = self.tables.get(device, [])
        before = [entry for entry in known if entry[0] <= offset]
        if before and before[-1][1] == table:
            return
        if self._size + len(table) > _MAX_ALIASES or (not known and len(self.tables) >= _MAX_DEVICES):
            raise Refused("too_many_births", f"more than {_MAX_ALIASES} aliases or {_MAX_DEVICES} devices")
        earlier = [entry for entry in before if entry[0] < offset]
        kept = [*earlier[1 - KEPT :], [offset, table]]
        self.tables[device] = kept
        self._size += sum(len(entry[1]) for entry in kept) - sum(len(entry[1]) for entry in known)
        self.changed = True

    def extend(self, device: str, offset: int, table: Table) -> None:
        """Take over single aliases of a sender whose message types are unknown. Raises Refused (`too_many_births`)."""
        before = [entry[1] for entry in self.tables.get(device, ()) if entry[0] <= offset]
        self.learn(device, offset, {**before[-1], **table} if before else table)

    def find(self, device: str, offset: int, alias: str) -> list[Any] | None:
        """`[name, data type]` of an alias in the birth in force at an offset; the node's birth is asked after the device's."""
        for key in (device, device.rsplit("/", 1)[0]) if device.count("/") > 1 else (device,):
            for born, table in reversed(self.tables.get(key, ())):
                if born <= offset:
                    if alias in table:
                        return table[alias]  # type: ignore[no-any-return]
                    break
        return None
