"""Three held-out machines that switch and make pieces: a welding cell, a die casting machine and a paper winder."""

from __future__ import annotations

import numpy as np

from benchmarks.held_out_faults import Harm, Machine
from benchmarks.held_out_signals import cycles, fresh, heavy, per_cycle, worn
from benchmarks.switching_plant import Plant
from benchmarks.switching_signals import Mask, age, ambient, lag, pieces, wander


def _welding_cell(plant: Plant, harm: Harm) -> Mask:
    """A robot that welds two seams on each of three parts, cleans its torch now and then, and waits for the worker."""
    add, random, rows, steps = plant.add, plant.random, plant.rows, plant.steps

    def part(number: int) -> tuple[int, list[int]]:
        breaks = int(random.integers(180, 420)) if number % 95 == 94 else 0
        waits = breaks + int(random.choice([0, 0, 1, 2, 12], p=[0.4, 0.3, 0.15, 0.1, 0.05]))
        return waits, [5, int(random.integers(8, 10)), 3, 11, 4, 5 if number % 9 == 8 else 0]

    phase, done, cycle = cycles(rows, part)
    kind = pieces(int(cycle.max()) + 1, lambda _: (random.integers(20, 60), random.integers(0, 3)))[0]
    part_kind = kind.astype(np.int64)[cycle]
    first, moves, second, cleans = (phase == each for each in (2, 3, 4, 6))
    arc, busy = first | second, phase > 0
    travels = moves | (phase == 1) | (phase == 5)
    new_wire = fresh(plant)
    wanted = np.array([182.0, 205.0, 236.0])[part_kind] * np.where(second, 1.06, 1.0) * (1 + 0.02 * new_wire)
    gap, tip = per_cycle(random, cycle, 3), worn(plant, 2200)
    sway = wander(random, rows, 3)
    bad_tip, lost_gas, clogged = (
        harm("worn_contact_tip"),
        harm("shielding_gas_leak"),
        harm("torch_cooling_clogged"),
    )
    stiff, clamp_leak, dust = harm("axis_gear_worn"), harm("clamp_leak"), harm("fume_filter_blocked")
    lit = arc * np.minimum(1.0, 0.85 + 0.15 * np.minimum(age(arc), 2))
    current = wanted * lit * (1 - 0.02 * tip - 0.15 * bad_tip)
    volts = lit * (17.5 + 0.045 * wanted + 0.25 * tip + 2.5 * bad_tip * (1 + 0.5 * sway))
    feed = lit * wanted / 24.5
    air = ambient(random, plant.seconds, 2.5, 22)
    spatter = heavy(random, rows, 1.4) * arc
    add("weld_current_a", "elec", current, 2.6 * arc, spatter + 3.0 * (gap + sway) * arc, 0.5, active=arc)
    add("weld_voltage_v", "elec", volts, 0.16 * arc, (-0.22 * gap - 0.15 * sway) * arc, 0.1, active=arc)
    add("wire_feed_m_min", "flow", feed, 0.04 * arc, 0.0, 0.02, active=arc)
    drive = feed * 0.11 + arc * (0.9 + 0.08 * tip + 0.6 * bad_tip)
    add("wire_motor_a", "elec", drive, 0.03 * arc, 0.03 * sway * arc, 0.01, active=arc)
    flow = np.where(arc, 15.2, np.where(cleans, 6.0, 0.0)) * (1 - 0.5 * lost_gas)
    add("gas_flow_l_min", "flow", flow, np.where(flow > 0, 0.18, 0), 0.15 * sway * arc, 0.1)
    bottle = worn(plant, 5200)
    add(
        "gas_press_bar",
        "press",
        4.6 - 0.35 * bottle - 0.18 * lag(arc * 1.0, 2) - 0.8 * lost_gas,
        0.025,
        0.0,
        0.01,
    )
    heat = current * volts / 1000
    cooling = 1.65 * (1 - 0.45 * clogged)
    warming = lag(heat, steps(35)) * 2.1 / cooling
    inlet = air + 1.5 + lag(heat, steps(2400)) * 1.6
    add("coolant_flow_l_min", "flow", cooling, 0.012, 0.01 * wander(random, rows, 40), 0.01)
    add("coolant_in_c", "temp", inlet, 0.08, 0.0, 0.1)
    add("coolant_out_c", "temp", inlet + warming, 0.12, 0.0, 0.1)
    torch = inlet + lag(heat * (18 + 30 * clogged + 4 * tip), steps(60), steps(110))
    add("torch_temp_c", "temp", torch, 0.6, 0.3 * lag(gap, 4), 0.5)
    for axis, (at_rest, in_move, in_weld) in enumerate(
        [(0.9, 4.6, 1.3), (2.4, 6.1, 2.9), (1.7, 4.9, 2.0), (0.4, 1.6, 0.7)]
    ):
        rough = stiff * (axis == 1)
        swings = np.sin(np.pi * done) * in_move
        axis_current = np.where(travels, at_rest + swings, np.where(busy, in_weld, at_rest * 0.8))
        moved = axis_current * (1 + 0.3 * rough * (travels | arc))
        add(f"axis{axis + 1}_a", "elec", moved, np.where(busy, 0.09, 0.02), 0.04 * sway * busy, 0.02)
        motor = lag(air + 6 + 7.5 * lag(moved, 3), steps(2000))
        add(f"axis{axis + 1}_motor_c", "temp", motor, 0.2, 0.0, 1.0 if axis > 1 else 0.5)
    clamps = (phase >= 1) & (phase <= 4)
    clamp = lag(np.where(clamps, 5.6, 0.2), 0.7) * (1 - 0.25 * clamp_leak * clamps)
    supply = 6.25 + 0.06 * wander(random, rows, 50) - 0.3 * clamp_leak * clamps
    add("clamp_press_bar", "press", clamp, np.where(clamps, 0.03, 0.01), 0.0, 0.01)
    add("air_supply_bar", "press", supply - 0.1 * lag(clamps * 1.0, 2), 0.02, 0.0, 0.01)
    loaded = 380 + 260 * worn(plant, 9000) + 420 * dust
    sucks = lag(np.where(lag(busy * 1.0, 20) > 0.05, 1.0, 0.35), 3)
    add("fume_filter_pa", "press", loaded * sucks**2, 6.0, heavy(random, rows, 2.0), 5)
    add("fume_fan_a", "elec", sucks * (7.2 - 0.0012 * loaded), 0.04, 0.0, 0.02)
    return busy


def _die_casting(plant: Plant, harm: Harm) -> Mask:
    """A cold chamber die casting machine: a shot about every minute, stops in which its dies cool down."""
    add, random, rows, steps = plant.add, plant.random, plant.rows, plant.steps

    def shot(number: int) -> tuple[int, list[int]]:
        chance = random.random()
        waits = (
            0
            if chance < 0.955
            else int(random.integers(5, 40) if chance < 0.99 else random.integers(120, 400))
        )
        return waits, [3, 4, 2, 6, int(random.integers(8, 10)), 3, 2, 5]

    phase, done, cycle = cycles(rows, shot)
    closes, pours, injects, holds, cools, opens, ejects, sprays = (phase == each for each in range(1, 9))
    busy, closed = phase > 0, (phase >= 2) & (phase <= 5)
    pour, thick = per_cycle(random, cycle, 2), per_cycle(random, cycle, 12)
    other_die = 1.0 * fresh(plant)
    n2, nozzle, water = harm("accumulator_leak"), harm("spray_nozzle_blocked"), harm("die_cooling_scaled")
    pump, vacuum, tie = harm("pump_worn"), harm("vacuum_valve_leaks"), harm("tie_bar_loose")
    charge = 1 - 0.05 * worn(plant, 6000) - 0.25 * n2
    plunger = np.select([pours, injects, holds], [0.25, 3.6 * charge, 0.05], 0.0)
    position = np.select([pours, injects, holds | cools], [140 * done, 140 + 300 * done, 442.0], 0.0)
    biscuit = 24 + 1.6 * pour - 2.0 * other_die + 5 * n2
    squeeze = np.select(
        [injects, holds], [160 + 180 * done, 690 * charge], np.where(cools, 240 * charge, 4.0)
    )
    metal = (injects | holds) * (1 + 0.03 * other_die)
    flow = np.where(busy, 38.0, 24.0) * (1 - 0.45 * water)
    mist = sprays * 4.4 * (1 - 0.5 * nozzle)
    hot = 172 + lag(metal * 520 - mist * 18 - lag(flow, 8) * 1.7, steps(240))
    cold = 158 + lag(metal * 470 - mist * 14 - lag(flow, 8) * 1.6, steps(300))
    air = ambient(random, plant.seconds, 3, 27)
    kilowatts = np.select(
        [closes, injects, holds, opens, ejects], [31, 22, 27, 26, 14], np.where(busy, 9.0, 6.5)
    )
    oil = lag(air + 14 + 0.55 * lag(kilowatts, 30) + 14 * pump, steps(1800))
    knock = heavy(random, rows, 1.0)
    add("plunger_m_s", "elec", plunger, np.where(injects, 0.05, 0.004), 0.03 * pour * injects, 0.01)
    add("plunger_mm", "level", position, np.where(busy, 0.6, 0.2), 2.0 * pour * (holds | cools), 0.5)
    add("metal_press_bar", "press", squeeze, np.where(squeeze > 100, 5.0, 0.5), 4 * thick * holds, 1)
    add("biscuit_mm", "qual", np.where(cycle > 0, biscuit, 24.0), 0.1, 0.0, 0.1)
    add("accumulator_bar", "press", 158 * charge - 26 * lag(injects * 1.0, 3), 0.5, 0.0, 0.5)
    tons = np.where(closed, 815 - 60 * tie + 4 * other_die, np.where(closes, 500 * done, 0))
    add("clamp_t", "press", tons, np.where(closed, 1.6, 0.1), 2.2 * thick * closed, 1, active=closed)
    split = np.where(closed, 2.0 + 24 * tie, 0.0)
    add("tie_bar_spread_t", "press", split, np.where(closed, 1.1, 0.1), 0.0, 0.5, active=closed, signed=True)
    add("die_fixed_c", "temp", hot, 0.5, 0.8 * lag(pour, 8), 0.5)
    add("die_moving_c", "temp", cold, 0.5, 0.6 * lag(pour, 8), 0.5)
    holding = 672 + 4 * np.sin(2 * np.pi * plant.seconds / 1900) - 6 * lag(busy * 1.0, steps(900))
    add("melt_c", "temp", holding, 0.6, wander(random, rows, 300), 1.0)
    add("spray_l_min", "flow", mist, np.where(sprays, 0.07, 0.0), 0.0, 0.05, active=sprays)
    add("spray_bar", "press", 5.2 - 0.25 * mist, 0.03, 0.03 * wander(random, rows, 25), 0.02)
    add("die_water_l_min", "flow", lag(flow, 3), 0.3, 0.25 * wander(random, rows, 60), 0.1)
    returned = air - 4 + lag(hot + cold - 2 * air, 20) * 1.5 / lag(flow, 8)
    add("die_water_out_c", "temp", returned, 0.15, 0.0, 0.1)
    add("oil_press_bar", "press", 162 - 0.35 * kilowatts - 22 * pump, 0.8, 0.5 * knock, 0.5)
    add("pump_kw", "elec", kilowatts * (1 + 0.18 * pump), 0.35, 0.2 * knock + 0.3 * thick * busy, 0.1)
    add("oil_temp_c", "temp", oil, 0.12, 0.0, 0.1)
    sucks = injects | holds
    add(
        "vacuum_mbar", "press", lag(np.where(sucks, 75 + 300 * vacuum, 1010.0), 0.6), 3.0, 4 * pour * sucks, 1
    )
    return busy


def _paper_winder(plant: Plant, harm: Harm) -> Mask:
    """A two-drum winder: sets of rolls of six grades, acceleration and stops between them, now and then a break of the sheet."""
    add, random, rows, steps = plant.add, plant.random, plant.rows, plant.steps

    def a_set(_: int) -> tuple[int, list[int]]:
        waits = int(random.integers(14, 30)) + int(random.random() < 0.08) * int(random.integers(20, 150))
        full = random.random() > 0.07
        return waits, [9, int(random.integers(70, 115) if full else random.integers(10, 60)), 8]

    phase, done, cycle = cycles(rows, a_set)
    grade, _ = pieces(int(cycle.max()) + 1, lambda _: (random.integers(4, 12), random.uniform(45, 110)))
    grammage = grade[cycle] + 14.0 * fresh(plant, (0.08, 0.18))
    starts, runs, stops = (phase == each for each in (1, 2, 3))
    busy = phase > 0
    pace = np.select([starts, runs, stops], [done, 1.0, 1 - done], 0.0)
    speed = pace * (2350 - 6.0 * grammage)
    metres = np.zeros(rows)
    for row in range(1, rows):
        ended = cycle[row] != cycle[row - 1]
        metres[row] = 0.0 if ended else metres[row - 1] + speed[row] * plant.step_seconds / 60
    thickness = grammage * 1.15e-6
    roll = np.sqrt(0.1**2 + 4 / np.pi * metres * thickness) * 1000
    parent = 2900 - 1500 * worn(plant, 460)
    bearing, slips, blunt = harm("drum_bearing_worn"), harm("unwind_brake_slips"), harm("slitter_blunt")
    eccentric, leaks, stuck_dust = (
        harm("parent_roll_eccentric"),
        harm("nip_cylinder_leak"),
        harm("dust_duct_blocked"),
    )
    draw = wander(random, rows, 5)
    shake = heavy(random, rows, 1.0, 4)
    sheet = 1.5 * wander(random, rows, 200)
    hard = busy * (1 - 0.45 * slips * (1 + 0.35 * wander(random, rows, 2)))
    tension = (120 + 4.2 * grammage) * lag(busy * 1.0, 1.0) * hard
    nip = np.where(busy, 3.4 - 1.1 * np.clip(roll / 1200, 0, 1), 0.3) * (1 - 0.3 * leaks)
    air = ambient(random, plant.seconds, 2.0, 26)
    push = np.select([starts, stops], [1.0, -0.8], 0.0) * (1 + roll / 1500)
    drum = pace * (62 + 0.32 * grammage) + 55 * push + 0.08 * tension * pace
    eccentricity = eccentric * pace**2
    add("speed_m_min", "elec", speed, np.where(busy, 1.2, 0), 1.5 * draw * pace, 1)
    add("web_tension_n_m", "press", tension, np.where(busy, 4.0, 0.4), (6 * draw + 1.5 * shake) * pace, 1)
    add(
        "unwind_torque_pct",
        "elec",
        tension * parent / 26000,
        np.where(busy, 0.5, 0.1),
        0.7 * draw * pace,
        0.1,
    )
    slitting = pace * (8.5 + 0.02 * grammage + 1.2 * worn(plant, 5000) + 3.5 * blunt)
    for number, share in ((1, 1.0), (2, 0.92)):
        current = np.maximum(drum * share + 6 * bearing * pace * (number == 2), -70)
        add(f"drum{number}_a", "elec", current, np.where(busy, 0.9, 0.1), 1.6 * draw * pace, 0.5, signed=True)
        spoilt = bearing * (number == 2)
        warm = lag(air + pace * (19 + 30 * spoilt), steps(1500))
        add(f"drum{number}_brg_c", "temp", warm, 0.2, 0.0, 0.5 if number == 1 else 0.1)
        shaking = 0.1 + pace**2 * (2.1 + 0.4 * np.sin(roll / 90.0) + 2.6 * spoilt) + 0.5 * eccentricity
        add(f"drum{number}_vib_mm_s", "vib", shaking, np.where(busy, 0.12, 0.01), 0.1 * shake * pace, 0.01)
    unwind = 0.1 + pace**2 * (1.0 + parent / 2200) + 3.2 * eccentricity
    add("unwind_vib_mm_s", "vib", unwind, np.where(busy, 0.1, 0.01), 0.1 * shake * pace, 0.01)
    add("unwind_diameter_mm", "level", parent, 1.0, 0.0, 2)
    add("roll_diameter_mm", "level", np.where(busy, roll, 100), np.where(busy, 0.8, 0.2), 0.0, 1)
    add("nip_kn_m", "press", lag(nip, 0.8), np.where(busy, 0.03, 0.01), 0.02 * shake * pace, 0.01)
    add("nip_oil_bar", "press", lag(nip, 0.8) * 21 + 4, 0.4, 0.0, 0.2)
    add("slitter_a", "elec", slitting, np.where(busy, 0.12, 0.01), 0.1 * draw * pace, 0.05)
    dust = 310 + pace * (55 + 35 * blunt) + 90 * worn(plant, 7000) + 150 * stuck_dust
    add("dust_duct_pa", "press", dust, 5.0, heavy(random, rows, 1.5), 5)
    add("dust_fan_a", "elec", 21 - 0.008 * dust, 0.06, 0.0, 0.05)
    add(
        "web_moisture_pct",
        "qual",
        np.where(busy, 6.4 - 0.012 * grammage, 0.0),
        0.07 * busy,
        0.1 * sheet * busy,
        0.01,
    )
    return busy


WORKSHOP = {
    "welding_cell": Machine(
        301, 12000, 5000, 5, 6, _welding_cell,
        ("worn_contact_tip", "shielding_gas_leak", "torch_cooling_clogged", "axis_gear_worn", "clamp_leak", "fume_filter_blocked"),
    ),
    "die_casting": Machine(
        302, 14000, 5000, 2, 9, _die_casting,
        ("accumulator_leak", "spray_nozzle_blocked", "die_cooling_scaled", "pump_worn", "vacuum_valve_leaks", "tie_bar_loose"),
    ),
    "paper_winder": Machine(
        303, 8000, 4000, 10, 2, _paper_winder,
        ("drum_bearing_worn", "unwind_brake_slips", "slitter_blunt", "parent_roll_eccentric", "nip_cylinder_leak", "dust_duct_blocked"),
    ),
}  # fmt: skip
"""Machines by name."""
