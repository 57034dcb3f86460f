"""Tables of figures in the documents are those of the result files that they name."""

import json
from pathlib import Path

import pytest

from benchmarks.detection import hit_rate, ranks
from benchmarks.detection_sets import LONGEST
from benchmarks.value_of_federation import held_against_bars

DOCS = Path(__file__).parents[1] / "docs"


def result(name):
    return json.loads((DOCS / "results" / f"{name}.json").read_text())


def short(value, digits=3):
    return f"{value:.{digits}f}".removeprefix("0")


def alarms(figures):
    return f"{short(figures['auc_pr'])} / {figures['false_alarms_per_week']:.1f}"


def value_of_federation():
    for fleet in ("smd19", "cmapss"):
        for ways in result("value_of_federation")[fleet]["joining"].values():
            named = [ways[way] for way in ("local", "federated", "federated and local") if way in ways]
            if len(named) == 3:
                yield f"| {alarms(named[0])} | {alarms(named[1])} | **{alarms(named[2])}** |"
            else:
                yield f"| no detector | {alarms(named[0])} |"
    for name, figures in result("value_of_federation")["smd19"]["fleets"].items():
        if "other machine" not in name:
            yield f"| {short(figures['auc_pr'])} | {figures['false_alarms_per_week']:.1f} |"


def unlike_relations():
    for fleet, ways in result("unlike_relations")["fleets"].items():
        alone, federated, trusting = (
            f"{short(ways[way]['auc_pr'])} / {short(ways[way]['flagged'])}"
            for way in ("alone", "federated", "trusting")
        )
        yield f"| {fleet} | {alone} | **{federated}** | {trusting} |"


def strangers():
    for fleet, of in result("strangers")["fleets"].items():
        alone, federated = (
            f"{short(of['mean'][way]['auc_pr'])} / {short(of['mean'][way]['flagged'])}"
            for way in ("alone", "federated")
        )
        gains = {
            kind: ways["federated"]["auc_pr"] - ways["alone"]["auc_pr"] for kind, ways in of["kinds"].items()
        }
        worst, best = (
            f"{kind}: {short(of['kinds'][kind]['alone']['auc_pr'])} to {short(of['kinds'][kind]['federated']['auc_pr'])}"
            for kind in (min(gains, key=gains.__getitem__), max(gains, key=gains.__getitem__))
        )
        yield f"| {fleet} | {alone} | **{federated}** | {worst} | {best} |"


def poisoned_site():
    training = result("poisoned_site")["training"]
    for lie in training["mean"]:
        yield [short(training[what][lie]["validation"]) for what in training]


def unlike_machines():
    ways = result("unlike_machines")["ways"]
    for way in ("common", "fine_tune", "head", "ditto", "each alone"):
        yield f"| {short(ways[way]['validation'])} | {short(ways[way]['auc_pr'])} |"
    for pair in (
        ("2 groups", "4 groups"),
        ("common, sensors missing",),
        ("the same, machines with all sensors", "common, those machines"),
    ):
        losses, areas = (
            " / ".join(short(ways[way][figure]) for way in pair) for figure in ("validation", "auc_pr")
        )
        yield f"| {losses} | {areas} |"


def fit_cost():
    for sensors, each in result("fit_cost")["sensors"].items():
        yield f"| {int(sensors):,} | {each['seconds']:.0f} | {each['memory_mib']:,.0f} |"


def detection():
    sets = result("detection")["sets"]
    for recipe in ("default", "ridge", "pca", "plain_ridge", "plain_pca_90", "pca_50", "zscore", "forest"):
        areas = [of[recipe]["auc_pr"] for of in sets.values()]
        yield "| " + " | ".join(f"{area:.3f}" for area in [*areas, sum(areas) / len(areas)]) + " |"
    for figure, digits in (
        ("auc_roc", 3),
        ("f1", 3),
        ("false_alarms_per_week", 1),
        ("normal_flagged_share", 3),
        ("expected_flagged_share", 3),
    ):
        yield "| " + " | ".join(f"{of['default'][figure]:.{digits}f}" for of in sets.values()) + " |"


def detection_short():
    sets = result("detection_short")["sets"]
    for recipe in next(iter(sets.values())):
        yield "| " + " | ".join(f"{of[recipe]['auc_pr']:.3f}" for of in sets.values()) + " |"


def equal_difficulty():
    for name, of in result("equal_difficulty")["sets"].items():
        peer, default, *simple = (
            short(of["auc_pr"][recipe])
            for recipe in ("plain_ridge", "default", "pca_50", "plain_pca_90", "zscore")
        )
        shown = {"turbine": "turbine", "steel": "steel", "pjm": "PJM"}[name]
        yield (
            f"| {shown}, {of['longest_fault_steps']} steps | {peer} ({short(of['published'])}) "
            f"| {default} ({short(of['bar'], 2)}) | " + " | ".join(simple) + " |"
        )


def detection_network():
    sets = result("detection_network")["sets"]
    for recipe in ("default", "default_network", "network"):
        yield "| " + " | ".join(short(of[recipe]["auc_pr"]) for of in sets.values()) + " |"


def promises():
    for promise, run in result("promises").items():
        cells = []
        for of in run["sets"].values():
            figures = of["default"]
            f1, noticed = (f"{figures[name]:.2f}".removeprefix("0") for name in ("f1", "event_recall"))
            flagged = short(figures["normal_flagged_share"], 4)
            cells.append(f"{f1} / {noticed} / {figures['false_alarms_per_week']:.1f} / {flagged}")
        yield f"| {short(float(promise), 3).rstrip('0')} | " + " | ".join(cells) + " |"


def short_trainings():
    for length, of in result("short_trainings")["lengths"].items():
        shares = [short(of[name]) for name in ("expected", "following", "median_following")]
        within = f"{of['within_a_factor_of_two']:.0%}, {of['at_most_twice']:.0%}".replace("%", " %")
        yield f"| {length} | {of['trainings']} | " + " | ".join([*shares, within]) + " |"


def followed_or_still():
    for name, lengths in result("short_trainings")["labelled"].items():
        for rows, ways in lengths.items():
            cells = [
                f"{short(of['auc_pr'])} / {short(of['f1'], 2)} / {short(of['false_flagged_share'])}"
                for of in ways.values()
            ]
            yield [f"| {name.upper()}, {int(rows):,} |", *cells]


def made_plants():
    found = result("made_plants")
    for recipes in (*found["kinds"].values(), *found["logarithms"].values()):
        areas = [short(recipes[name]["auc_pr"]) for name in ("ridge", "pca", "zscore", "pca_50")]
        flagged = [short(recipes[name]["normal_flagged_share"]) for name in ("default", "zscore", "pca_50")]
        noticed = short(recipes["default"]["event_recall"], 2)
        yield (
            f"| **{short(recipes['default']['auc_pr'])}** | " + " | ".join([*areas, *flagged, noticed]) + " |"
        )


def switching(name="switching"):
    found = result(name)
    for recipes in (*found["machines"].values(), found["mean"]):
        others = ("ridge", "pca", "plain_ridge", "pca_50", "zscore", "forest")
        areas = " | ".join(short(recipes[name]["auc_pr"]) for name in others)
        default = recipes["default"]
        noticed, flagged = short(default["event_recall"], 2), short(default["normal_flagged_share"])
        yield f"| **{short(default['auc_pr'])}** | {areas} | {noticed} | {flagged} |"


def held_out():
    yield from switching("held_out")


def four(figures):
    """AUC-PR, F1, incidents noticed, normal steps flagged."""
    return " / ".join(
        short(figures[name], digits)
        for name, digits in (("auc_pr", 3), ("f1", 2), ("event_recall", 2), ("normal_flagged_share", 3))
    )


def dirty_trainings():
    found = result("dirty_trainings")
    for fleet, of in found["fleets"].items():
        yield f"| {fleet}, none | {four(of['clean'])} |"
        for share, ways in of.items():
            if isinstance(ways, dict) and "dirty" in ways:
                first = ways["candidates"]
                cells = [four(ways[way]) for way in ("dirty", "candidates", "again", "labelled")]
                named = f"{first['named_faulty']} of {first['named']}"
                yield f"| {fleet}, {share.replace('%', ' %')} | " + " | ".join([*cells, named]) + " |"
    told = (f"{name} {of['accused']} of {of['trainings']}" for name, of in found["accused"].items())
    yield f"| nothing labelled, something named | {', '.join(told)} |"


def silent_sensors():
    for of in result("silent_sensors")["sets"].values():
        cells = []
        for figures in of.values():
            auc_pr, flagged = short(figures["auc_pr"]), short(figures["normal_flagged_share"], 4)
            cells.append(f"{auc_pr} / {figures['event_recall']:.2f} / {flagged}".replace(" 0.", " ."))
        worst = ", ".join(short(of[way]["worst_flagged"], 4) for way in ("filled", "average"))
        yield "| " + " | ".join([*cells, worst]) + " |"


TABLES = {
    silent_sensors: "decisions/0021-missing-readings.md",
    value_of_federation: "value-of-federation.md",
    unlike_relations: "concepts/federation.md",
    strangers: "concepts/federation.md",
    poisoned_site: "concepts/federation.md",
    unlike_machines: "concepts/federation.md",
    detection: "decisions/0004-detector.md",
    fit_cost: "decisions/0025-hundreds-of-sensors.md",
    detection_short: "decisions/0004-detector.md",
    equal_difficulty: "decisions/0004-detector.md",
    detection_network: "decisions/0004-detector.md",
    promises: "decisions/0014-threshold.md",
    short_trainings: "concepts/detection.md",
    followed_or_still: "decisions/0017-short-trainings-followed.md",
    made_plants: "concepts/detection.md",
    switching: "decisions/0018-machines-that-switch.md",
    held_out: "decisions/0026-held-out.md",
    dirty_trainings: "concepts/detection.md",
}


@pytest.mark.parametrize("rows", TABLES, ids=lambda rows: rows.__name__)
def test_rows_of_a_table_are_those_of_its_result(rows):
    lines = (DOCS / TABLES[rows]).read_text().splitlines()
    missing = []
    for row in rows():
        parts = [row] if isinstance(row, str) else row
        if not any(line.startswith("|") and all(part in line for part in parts) for line in lines):
            missing.append(row)
    assert missing == []


def test_injected_faults_last_as_long_as_makes_them_as_hard_as_the_published_ones():
    found = result("equal_difficulty")["sets"]
    assert {name: of["longest_fault_steps"] for name, of in found.items()} == LONGEST


def test_recipes_that_do_equally_well_on_a_set_share_their_rank():
    found = ranks(
        {
            "smd": {"default": {"auc_pr": 0.5}, "durations": {"auc_pr": 0.5}, "zscore": {"auc_pr": 0.4}},
            "tep": {"default": {"auc_pr": 0.7}, "durations": {"auc_pr": 0.9}, "zscore": {"auc_pr": 0.8}},
        }
    )
    assert found == {"default": 2.25, "durations": 1.25, "zscore": 2.5}


def test_bars_are_held_against_what_was_measured_only():
    def ways(local, federated):
        both = {name: {"auc_pr": federated} for name in ("federated and local", "centralised")}
        return {"local": {"auc_pr": local}, "federated": {"auc_pr": 0.3}, **both}

    nothing = {"0": {"federated": {"auc_pr": 0.4}}}
    assert held_against_bars(nothing) == {}
    assert held_against_bars({**nothing, "200 rows": ways(0.3, 0.5)}) == {
        "gain_with_200_rows": 0.2,
        "federated_share_of_centralised": 1.0,
    }


@pytest.mark.parametrize(
    "order,truth,percent,share",
    [
        ([4, 2, 7], {4}, 100, 1.0),
        # One and a half of one sensor is one: the second does not count.
        ([2, 4, 7], {4}, 150, 0.0),
        ([2, 4, 7], {4, 7}, 100, 0.5),
        ([2, 4, 7], {4, 7}, 150, 1.0),
        ([1, 2, 3, 4, 5], {1, 4, 5}, 150, 2 / 3),
    ],
)
def test_hit_rate_looks_at_so_many_sensors_rounded_down(order, truth, percent, share):
    assert hit_rate(order, truth, percent) == pytest.approx(share)
