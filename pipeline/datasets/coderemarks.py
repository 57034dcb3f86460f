"""Remarks on values that look like codes for no reading, with the setting that cures them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from pipeline.config.schema import Config
from pipeline.datasets.codes import Code
from pipeline.remarks import listed

_MOST = 3


def code_remarks(codes: Mapping[str, Sequence[Code]], config: Config) -> Iterator[tuple[str, str]]:
    """Site and remark; sites with the same codes share theirs, with the values of all of them."""
    alike: dict[tuple[tuple[str, str, float], ...], list[str]] = {}
    for site, found in codes.items():
        if found:
            key = tuple((rule_key(config, site, code.sensor), code.sensor, code.value) for code in found)
            alike.setdefault(key, []).append(site)
    for key, sites in alike.items():
        remark = _remark([rule for rule, _, _ in key], _added([codes[site] for site in sites]))
        yield from ((site, remark) for site in sites)


def rule_key(config: Config, site: str, sensor: str) -> str:
    """The table that says how a sensor is read, which may be sent under another name, as TOML: `[ingestion.sensors."temperature"]`."""
    own = next((each.sensors for each in config.sites if each.name == site), {})
    for table, rules in (("sites", own), ("ingestion", config.ingestion.sensors)):
        for sent, rule in rules.items():
            if (rule.name or sent) == sensor:
                return f"[{table}.sensors.{json.dumps(sent, ensure_ascii=False)}]"
    return f"[ingestion.sensors.{json.dumps(sensor, ensure_ascii=False)}]"


def _added(of_sites: Sequence[Sequence[Code]]) -> list[Code]:
    """The same codes of several sites as one: every limit leaves each site its readings."""
    return [
        replace(
            same[0],
            count=sum(code.count for code in same),
            values=sum(code.values for code in same),
            limit=(min if same[0].below else max)(code.limit for code in same),
        )
        for same in zip(*of_sites, strict=True)
    ]


def told(codes: Iterable[Code]) -> str:
    """What was seen, for a line: `flow -9999 (53 of 1,800 values)`, the first few."""
    return listed(
        (f"{code.sensor} {code.value:.10g} ({code.count:,} of {code.values:,} values)" for code in codes),
        _MOST,
    )


def limits(codes: Iterable[Code]) -> list[str]:
    """The valid range that leaves out these codes of one sensor, as TOML: `min = -5000`, `max = 500`, or both."""
    found = {"min" if code.below else "max": f"{code.limit:.10g}" for code in codes}
    return [f"{key} = {value}" for key, value in sorted(found.items(), reverse=True)]


def _remark(keys: Sequence[str], codes: Sequence[Code]) -> str:
    first = [code for code in codes if code.sensor == codes[0].sensor]
    setting = " and ".join(limits(first))
    others = ", and likewise for the others" if len(first) < len(codes) else ""
    return (
        f"looks like a code for no reading, which hides the sensor behind its size: {told(codes)}; if it is one, "
        f"set {setting} under {keys[0]}{others}"
    )
