"""A decoder whose readings go through the site's sensor mapping."""

from dataclasses import replace

from ingestion import decode as formats
from ingestion.mapping import SiteMapping
from ingestion.records import Decoded, RecordBatch
from ingestion.settings import IngestSettings


class Mapped:
    """Decoder of one partition; which site's rules hold is known from its first batch."""

    def __init__(self, settings: IngestSettings) -> None:
        self._settings = settings
        self._decoder: formats.Decoder | None = None
        self._mapping: SiteMapping | None = None

    def decode(self, batch: RecordBatch) -> Decoded:
        """See `ingestion.decode.Decoder`."""
        if self._decoder is None or self._mapping is None:
            rules = self._settings.decode
            self._mapping = SiteMapping(
                rules.mapping.get(batch.site, {}), rules.min_quality, rules.assets.get(batch.site)
            )
            inner = replace(rules, mapping={}, min_quality=None, assets={}, states=self._mapping.states)
            self._decoder = formats.build_decoder(replace(self._settings, decode=inner))
        return self._mapping.apply(self._decoder.decode(batch))
