"""The page's section on stretches of the training that stand out of the rest."""

from html import escape

from pipeline.evaluation.candidate import Candidates, as_toml
from pipeline.remarks import listed


def candidates(found: Candidates, looked_at_before: Candidates) -> str:
    """A table of them, strongest first, and the settings that leave them out or mark them as looked at; of those that were only how many."""
    before = _before(looked_at_before, more=bool(found))
    if not found:
        return before
    rows = "".join(
        f'<tr><td class="name">{escape(site)}</td><td>{escape(each.asset)}</td><td>{escape(each.begin)}</td><td>{escape(each.end)}</td>'
        f'<td class="n">{each.times_usual:.1f}</td><td class="wide">{escape(", ".join(each.sensors)) or "–"}</td></tr>'
        for site, of in found.items()
        for each in of
    )
    head = '<th>Machine</th><th>From</th><th>To</th><th class="n">Score</th><th>Sensors that say most</th>'
    return (
        "<p>In these stretches the detector finds its own training far from ordinary: their scores do not belong to the tail that the others show. Look"
        " whether the machine was broken or being worked on then. If so, leave the stretch out and train again: what learning sees it takes for ordinary, and"
        " the alert line stands the higher for it. What was rare but right stays in: mark it as looked at, and it is not named again. The score is in units of"
        " the largest one that the rest lets expect once. Nothing was left out by itself.</p>"
        f'<div class="scroll"><table><thead><tr><th>Site</th>{head}</tr></thead><tbody>{rows}</tbody></table></div>{before}'
        + _settings(found, "leave_out", "leave them out")
        + _settings(found, "looked_at", "mark them as looked at")
    )


def _settings(found: Candidates, table: str, what: str) -> str:
    return (
        f"<details class='more'><summary>Settings that {what}, to paste into the configuration</summary>"
        f"<pre>{escape(as_toml(found, table))}</pre></details>"
    )


def _before(looked_at_before: Candidates, *, more: bool) -> str:
    count = sum(map(len, looked_at_before.values()))
    if not count:
        return ""
    many = ("stretches that stand out of it", "were", "are")
    stretches, were, are = many if count > 1 else ("stretch that stands out of it", "was", "is")
    what = "more" if more else stretches
    sites = listed(f"{escape(site)} {len(of)}" for site, of in looked_at_before.items())
    return f"<p>{count} {what} {were} looked at before ({sites}; <code>dataset.looked_at</code>) and {are} not named again.</p>"
