"""Two held-out plants that follow the day's demand and do not switch as a whole: water works and a data hall."""

from __future__ import annotations

import numpy as np

from benchmarks.held_out_faults import Harm, Machine
from benchmarks.held_out_signals import bump, fresh, heavy, weekday, worn
from benchmarks.switching_plant import Plant
from benchmarks.switching_signals import DAY, HOUR, Mask, Rows, ambient, lag, stretches, wander


def _water_works(plant: Plant, harm: Harm) -> Mask:
    """Drinking water from a river, steps of 5 minutes: demand of the day, rain that clouds the river, four filters washed in turn."""
    add, random, rows, steps = plant.add, plant.random, plant.rows, plant.steps
    workday = weekday(plant)
    demand = (
        720
        + 260 * bump(plant, 7.5, 1.6) * (0.7 + 0.3 * workday)
        + 210 * bump(plant, 19, 2.2)
        - 150 * bump(plant, 3, 2.0)
    )
    hot_days = np.where(fresh(plant), 1.06, 1.0)
    flow = lag(demand * hot_days, 8) * (1 + 0.02 * wander(random, rows, 40))
    rain = stretches(
        rows,
        int(random.integers(0, 900)),
        lambda: (int(random.integers(20, 160)), 150 + int(random.exponential(900))),
    )
    storm = lag(rain * np.exp(0.5 * wander(random, rows, 200)), 60, 250)
    muddy = 4.5 * np.exp(0.18 * wander(random, rows, 400)) + 22 * storm
    river = (
        13
        + 3 * plant.seconds / plant.seconds[-1]
        + 0.5 * ambient(random, plant.seconds, 1.5, 0)
        - 1.0 * storm
    )
    dosing, breaks, intake = (
        harm("coagulant_pump_loses_stroke"),
        harm("filter_2_breaks_through"),
        harm("intake_screen_blocked"),
    )
    chlorine, bearing, valve = (
        harm("chlorine_dosing_weak"),
        harm("high_lift_bearing_worn"),
        harm("filter_3_outlet_valve_sticks"),
    )
    jitter, scatter = wander(random, rows, 3), heavy(random, rows, 1.0)
    dose = 18 + 4.2 * np.sqrt(muddy)
    settled = lag(0.55 + 0.022 * muddy + 2.4 * lag(dosing, 8), 18)
    add("raw_flow_m3_h", "flow", flow * (1 - 0.03 * intake), 3.5, 5 * jitter, 1)
    add("raw_turbidity_ntu", "qual", muddy, 0.15 + 0.025 * muddy, 0.03 * muddy * scatter, 0.1)
    add("raw_temp_c", "temp", river, 0.05, 0.0, 0.1)
    acidity = 7.85 - 0.18 * storm + 0.06 * bump(plant, 15, 3)
    add("raw_ph", "qual", acidity, 0.012, 0.02 * wander(random, rows, 150), 0.01)
    add("raw_conductivity_us", "qual", 410 - 55 * storm, 1.6, 6 * wander(random, rows, 300), 1)
    screen = (0.06 + 0.04 * worn(plant, 2600) + 0.12 * intake) * (flow / 800) ** 2 * (1 + 0.6 * storm)
    add("screen_head_m", "press", screen, 0.004, 0.0, 0.002)
    add("coagulant_l_h", "flow", flow * dose / 1000 * (1 - 0.35 * dosing), 0.12, 0.0, 0.05)
    add("floc_ph", "qual", acidity - 0.011 * dose * (1 - 0.35 * dosing), 0.012, 0.0, 0.01)
    add(
        "streaming_current",
        "qual",
        0.3 * (settled - 1) * 10 - 6 * dosing,
        0.5,
        0.8 * jitter,
        0.1,
        signed=True,
    )
    add("settled_ntu", "qual", settled, 0.03, 0.04 * jitter, 0.01)
    life, cloudy = int(random.integers(360, 420)), np.zeros(rows)
    for number in range(4):
        at = (np.arange(rows) + number * life // 4) % life
        washed, ripening = at < 6, np.exp(-np.maximum(at - 6, 0) / 7.0)
        through = np.where(washed, 0.0, flow / 4) * (1 - 0.15 * valve * (number == 2))
        head = (0.35 + 1.25 * (at / life) ** 1.2 * (0.75 + 0.25 * settled)) * (flow / 800) * ~washed
        passes = 0.06 + 0.02 * settled + 0.12 * ripening + 0.35 * breaks * (number == 1)
        cloudy += passes / 4
        add(f"filter{number + 1}_m3_h", "flow", through, 1.4, 1.2 * jitter * ~washed, 0.5, active=~washed)
        add(f"filter{number + 1}_head_m", "press", head, 0.015, 0.0, 0.01, active=~washed)
        add(f"filter{number + 1}_ntu", "qual", passes, 0.006, 0.004 * scatter, 0.002)
        position = np.clip(
            30 + 32 * head + 14 * valve * (number == 2) * np.sign(wander(random, rows, 5)), 0, 100
        )
        add(
            f"filter{number + 1}_valve_pct",
            "set",
            np.where(washed, 0.0, position),
            0.5,
            0.0,
            0.5,
            active=~washed,
        )
    left = 0.52 - 0.012 * (river - 13) - 0.15 * lag(chlorine, 10)
    add("clear_well_ntu", "qual", lag(cloudy, 20), 0.003, 0.0, 0.001)
    add("free_chlorine_mg_l", "qual", left, 0.008, 0.012 * wander(random, rows, 25), 0.01)
    add("redox_mv", "qual", 655 + 260 * (left - 0.5), 2.0, 2.5 * wander(random, rows, 60), 1)
    add(
        "clear_well_m",
        "level",
        3.4 - 0.0016 * lag(demand - 760, 30),
        0.01,
        0.05 * wander(random, rows, 120),
        0.01,
    )
    amperes = 96 + 0.11 * flow + 3 * bearing
    add("high_lift_bar", "press", 5.6 - 0.0007 * flow, 0.02, 0.02 * jitter, 0.01)
    add("high_lift_a", "elec", amperes, 0.6, 0.8 * jitter, 0.5)
    add("high_lift_vib_mm_s", "vib", 1.2 + 0.0008 * flow + 1.6 * bearing, 0.07, 0.04 * scatter, 0.01)
    add(
        "high_lift_brg_c",
        "temp",
        lag(river + 24 + 0.012 * flow + 14 * bearing, steps(0.6 * HOUR)),
        0.2,
        0.0,
        0.1,
    )
    return np.ones(rows, np.bool_)


def _data_hall(plant: Plant, harm: Harm) -> Mask:
    """The cooling of a data hall, steps of 5 minutes: six air coolers, ten racks, chilled water, load by day and by jobs."""
    add, random, rows, steps = plant.add, plant.random, plant.rows, plant.steps
    outside = ambient(random, plant.seconds, 4, 15) + 2.0 * wander(random, rows, steps(3 * DAY))
    grown = 1 + 0.05 * np.arange(rows) / rows + 0.03 * fresh(plant, (0.2, 0.4))
    office = bump(plant, 11, 2.5) + bump(plant, 15.5, 2.5)
    rooms = [
        grown * (base + 28 * office * weekday(plant) + 14 * wander(random, rows, 70))
        for base in (235.0, 198.0)
    ]
    chilled_pump, clogged, belt = (
        harm("chilled_pump_cavitates"),
        harm("cooler_2_filter_clogged"),
        harm("cooler_5_belt_slips"),
    )
    valve, leak, tower = harm("cooler_3_valve_sticks"), harm("hot_aisle_door_open"), harm("tower_fan_fails")
    total = rooms[0] + rooms[1]
    wet = outside * 0.72 + 3
    tower_water = lag(wet + 5 + 0.008 * total + 5 * tower, steps(0.5 * HOUR))
    chilled = lag(9.5 + 0.05 * np.maximum(tower_water - 20, 0) + 1.2 * chilled_pump, 3) + 0.12 * wander(
        random, rows, 4
    )
    flow = 54 + 0.06 * (total - 430) - 7 * chilled_pump
    jitter, scatter = wander(random, rows, 3), heavy(random, rows, 1.0, 4)
    add("outside_c", "temp", outside, 0.15, 0.0, 0.1)
    add("outside_humidity_pct", "qual", 68 - 1.8 * (outside - 15), 0.8, 6 * wander(random, rows, 200), 1)
    for number, power in enumerate(rooms):
        add(f"it_power_{number + 1}_kw", "elec", power, 0.6, 1.0 * scatter, 0.5)
    hot = total / 430
    cold_side: list[Rows] = []
    for number in range(6):
        mine = rooms[number // 3]
        alone = wander(random, rows, 25)
        dirty = 0.25 * worn(plant, 6000) + 1.2 * clogged * (number == 1)
        slip, stuck = belt * (number == 4), valve * (number == 2)
        supply = 20.0 + 0.25 * alone + 2.4 * stuck + 1.0 * slip + 0.5 * dirty * (number == 1)
        back = supply + 0.048 * mine + 1.6 * slip - 1.5 * leak * (number < 3)
        fan = 46 + 0.1 * (mine - 215) + 9 * dirty + 8 * slip
        water = np.clip(38 + 0.14 * (mine - 215) + 5.0 * (chilled - 9.5) + 14 * stuck, 0, 100)
        cold_side.append(supply + 1.0 * leak * (number < 3))
        add(f"cooler{number + 1}_supply_c", "temp", supply, 0.1, 0.1 * jitter, 0.1)
        add(f"cooler{number + 1}_return_c", "temp", lag(back, 2), 0.12, 0.1 * jitter, 0.1)
        add(f"cooler{number + 1}_fan_pct", "set", fan, 0.4, 0.5 * alone, 0.5)
        add(f"cooler{number + 1}_valve_pct", "set", water, 0.7, 0.9 * alone + 0.5 * jitter, 0.5)
        add(
            f"cooler{number + 1}_fan_a",
            "elec",
            1.1 + 3.6 * (fan / 60) ** 2 - 0.9 * slip - 0.25 * dirty,
            0.03,
            0.0,
            0.01,
        )
        add(
            f"cooler{number + 1}_filter_pa",
            "press",
            (62 + 75 * dirty) * (fan / 50) ** 2 * (1 - 0.2 * slip),
            1.5,
            0.0,
            1,
        )
    for rack in range(10):
        near = cold_side[rack * 6 // 10]
        busy = wander(random, rows, float(random.uniform(15, 90)))
        rises = random.uniform(0.3, 1.8) + 2.2 * leak * (rack < 5)
        add(
            f"rack{rack + 1:02d}_inlet_c",
            "temp",
            lag(near + rises + 0.3 * busy, 1.5),
            0.12,
            0.1 * jitter,
            0.1,
        )
    add("chilled_supply_c", "temp", chilled, 0.06, 0.0, 0.1)
    add("chilled_return_c", "temp", lag(chilled + total * 0.86 / flow, 2), 0.08, 0.0, 0.1)
    add("chilled_flow_m3_h", "flow", flow, 0.4, 0.4 * jitter, 0.1)
    add(
        "chilled_dp_bar", "press", 1.15 - 0.3 * chilled_pump * (1 + 0.3 * jitter), 0.012, 0.01 * jitter, 0.005
    )
    add("chilled_pump_kw", "elec", 5.4 * (flow / 54) ** 2 - 0.3 * chilled_pump, 0.05, 0.0, 0.02)
    lift = tower_water - chilled
    add("chiller_kw", "elec", total * (0.05 + 0.0065 * lift), 1.0, 1.2 * jitter, 0.5)
    add("condenser_bar", "press", 6.0 + 0.16 * (tower_water - 20) + 0.6 * hot, 0.03, 0.02 * jitter, 0.01)
    add("tower_water_c", "temp", tower_water, 0.12, 0.0, 0.1)
    add("tower_fan_pct", "set", np.clip(25 + 2.2 * (wet - 8) + 10 * tower, 15, 100), 0.8, 0.0, 0.5)
    add("hall_humidity_pct", "qual", 44.0, 0.35, 1.8 * wander(random, rows, 180), 0.5)
    return np.ones(rows, np.bool_)


STEADY = {
    "water_works": Machine(
        309, 9000, 4500, 300, 0, _water_works,
        ("coagulant_pump_loses_stroke", "filter_2_breaks_through", "intake_screen_blocked", "chlorine_dosing_weak", "high_lift_bearing_worn", "filter_3_outlet_valve_sticks"),
    ),
    "data_hall": Machine(
        310, 10000, 4000, 300, 0, _data_hall,
        ("chilled_pump_cavitates", "cooler_2_filter_clogged", "cooler_5_belt_slips", "cooler_3_valve_sticks", "hot_aisle_door_open", "tower_fan_fails"),
    ),
}  # fmt: skip
"""Plants by name."""
