"""The page's section on stretches of the training that stand out of the rest."""

from html import escape

from pipeline.evaluation.candidate import Candidates, as_toml


def candidates(found: Candidates) -> str:
    """A table of them, strongest first, and the settings that leave them out."""
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
        " the alert line stands the higher for it. What was rare but right stays in. The score is in units of the largest one that the rest lets expect"
        " once. Nothing was left out by itself.</p>"
        f'<div class="scroll"><table><thead><tr><th>Site</th>{head}</tr></thead><tbody>{rows}</tbody></table></div>'
        "<details class='more'><summary>All of them as settings, to paste into the configuration</summary>"
        f"<pre>{escape(as_toml(found))}</pre></details>"
    )
