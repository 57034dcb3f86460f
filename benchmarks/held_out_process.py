"""Three held-out machines that switch and treat or move goods: a pasteuriser with cleaning, a harbour crane and a sugar centrifuge."""

from __future__ import annotations

import numpy as np

from benchmarks.held_out_faults import Harm, Machine
from benchmarks.held_out_signals import cycles, fresh, heavy, per_cycle, worn
from benchmarks.switching_plant import Plant
from benchmarks.switching_signals import Mask, ambient, lag, wander


def _pasteuriser(plant: Plant, harm: Harm) -> Mask:
    """A dairy pasteuriser: some hours of milk, skimmed milk or cream, water, cleaning by caustic and acid, sterilising, and it waits."""
    add, random, rows, steps = plant.add, plant.random, plant.rows, plant.steps

    def batch(_: int) -> tuple[int, list[int]]:
        milk = int(random.integers(380, 900))
        short = random.random() < 0.35
        caustic, acid = int(random.integers(50, 66)), 0 if short else int(random.integers(32, 42))
        return int(random.integers(15, 140)), [30, milk, 12, caustic, 18, acid, 0 if acid == 0 else 16]

    phase, done, cycle = cycles(rows, batch)
    product = random.choice(3, int(cycle.max()) + 1, p=[0.55, 0.3, 0.15])[cycle]
    heats_up, milk, push, caustic, rinse, acid, last_rinse = (phase == each for each in range(1, 8))
    water, cleans, busy = heats_up | push | rinse | last_rinse, caustic | acid, phase > 0
    rich = 1.0 * fresh(plant)
    batch_fat = per_cycle(random, cycle, 2)
    fouled = done * milk * (1 + 0.25 * batch_fat) + 0.25 * push
    scaled, pump, valve = harm("regenerator_fouled"), harm("feed_pump_worn"), harm("steam_valve_sticks")
    ice, dosing, leak = (
        harm("chiller_loses_duty"),
        harm("caustic_dosing_weak"),
        harm("homogeniser_valve_worn"),
    )
    wanted = np.select([milk, cleans, busy], [np.array([15.0, 15.4, 9.0])[product], 18.5, 14.0], 0.0)
    flow = lag(wanted, 2) * (1 - 0.12 * pump)
    pulse, draw = wander(random, rows, 4), wander(random, rows, 35)
    stick = valve * 2.2 * np.sin(2 * np.pi * np.arange(rows) / 14)
    target = np.select(
        [milk, caustic, acid, busy],
        [np.array([76.5, 74.5, 88.0])[product] - 0.6 * rich, 78.0, 64.0, 80.0],
        30.0,
    )
    silo = 5.0 + 1.1 * wander(random, rows, 700) + 0.8 * np.sin(2 * np.pi * plant.seconds / 86400)
    inlet = lag(np.where(milk, silo, np.where(cleans, 55.0, 16.0)), 5)
    held = lag(target, 8) + stick * busy + 0.25 * pulse * busy
    recovery = 0.915 - 0.035 * fouled - 0.12 * scaled
    preheated = lag(inlet + recovery * (held - inlet) * lag(busy * 1.0, 6), 3)
    duty = flow * (held - preheated) * 1.16
    cooled = held - recovery * (held - inlet)
    ice_water = 1.2 + 0.25 * draw + 3.2 * ice
    outlet = lag(np.where(milk, ice_water + 2.6 + 0.09 * (cooled - 5), cooled), 4)
    air = ambient(random, plant.seconds, 3, 20)
    sludge = heavy(random, rows, 1.0, 4)
    add("feed_flow_m3_h", "flow", flow, np.where(busy, 0.04, 0.005), 0.07 * pulse * busy, 0.02)
    add("balance_tank_pct", "level", np.where(busy, 62.0, 20.0), 0.8, 2.5 * wander(random, rows, 12), 0.5)
    amperes = np.where(busy, 4.0 + 0.55 * wanted + 0.6 * pump, 0.0)
    add("feed_pump_a", "elec", lag(amperes, 1), np.where(busy, 0.09, 0.0), 0.08 * pulse * busy, 0.05)
    thick = np.where(milk, np.array([1.0, 0.93, 1.5])[product], 0.85)
    pressure = 0.2 + (flow / 15) ** 2 * 4.1 * thick * (1 + 0.22 * fouled + 0.4 * scaled)
    add("feed_press_bar", "press", pressure, np.where(busy, 0.04, 0.01), 0.05 * pulse * busy, 0.01)
    add("inlet_c", "temp", inlet, 0.08, 0.0, 0.1)
    add("preheated_c", "temp", preheated, 0.1, 0.08 * draw, 0.1)
    add("holding_in_c", "temp", held, 0.07, 0.08 * pulse * busy, 0.1)
    add("holding_out_c", "temp", lag(held, 1.5) - 0.35, 0.06, 0.05 * draw, 0.05)
    hot_water = held + 1.8 + 0.17 * duty / 15 * (1 + 0.9 * fouled + 1.0 * scaled)
    add("hot_water_c", "temp", lag(hot_water, 2), 0.1, 0.0, 0.1)
    add("cooled_c", "temp", lag(cooled, 2), 0.1, 0.0, 0.1)
    add("outlet_c", "temp", outlet, 0.1, 0.0, 0.1)
    add("ice_water_in_c", "temp", ice_water, 0.06, 0.0, 0.1)
    add("ice_water_out_c", "temp", lag(ice_water + milk * (cooled - outlet) * 0.33, 3), 0.09, 0.0, 0.1)
    opening = np.clip(6 + duty * 0.27, 0, 100) * busy
    add("steam_valve_pct", "set", lag(opening, 1.5) + 1.4 * stick * busy, 0.3, 0.5 * pulse * busy, 0.2)
    steam = 7.2 - 0.006 * duty + 0.12 * wander(random, rows, 90)
    add("steam_press_bar", "press", steam, 0.03, 0.0, 0.02)
    add("steam_kg_h", "flow", np.maximum(duty, 0) * 1.72, np.where(busy, 4.0, 0.5), 0.0, 2)
    works = milk & (product != 1)
    grinds = np.where(works, 182.0 * (1 - 0.12 * leak), np.where(busy, 22.0, 0.0))
    pulses = np.where(works, 1.6 + 0.03 * rich, 0.2 * busy)
    add("homogeniser_bar", "press", lag(grinds, 2), pulses, 1.2 * sludge * works, 1)
    add(
        "homogeniser_a",
        "elec",
        lag(grinds, 2) * 0.42 + 9 * busy,
        np.where(busy, 0.5, 0.0),
        0.5 * pulse * works,
        0.2,
    )
    salts = np.select(
        [milk, caustic, acid, water], [np.array([4.6, 4.9, 2.6])[product], 62.0 - 20 * dosing, 41.0, 0.7], 0.7
    )
    add("conductivity_ms", "qual", lag(salts, 6), 0.03 + 0.006 * salts, 0.12 * batch_fat * milk, 0.05)
    add(
        "caustic_tank_c",
        "temp",
        79 - 3.5 * lag(caustic * 1.0, 30),
        0.15,
        0.3 * wander(random, rows, 120),
        0.1,
    )
    bearing = lag(air + busy * (17 + 0.5 * flow + 9 * pump), steps(2400))
    add("feed_pump_brg_c", "temp", bearing, 0.15, 0.0, 0.1)
    add(
        "feed_pump_vib_mm_s",
        "vib",
        0.05 + busy * (1.0 + 0.05 * flow + 1.4 * pump),
        np.where(busy, 0.07, 0.01),
        0.04 * sludge * busy,
        0.01,
    )
    return busy


def _harbour_crane(plant: Plant, harm: Harm) -> Mask:
    """A ship-to-shore crane: lifts a box, runs the trolley, lowers it, returns empty, and waits for lorries."""
    add, random, rows, steps = plant.add, plant.random, plant.rows, plant.steps

    def move(number: int) -> tuple[int, list[int]]:
        waits = int(random.integers(6, 40)) + int(random.random() < 0.06) * int(random.integers(150, 900))
        height, reach = int(random.integers(11, 24)), int(random.integers(10, 20))
        return waits, [height, reach, int(random.integers(9, 15)), 7, 13, reach, height + 2, 8]

    phase, done, cycle = cycles(rows, move)
    lifts, out, lowers, sets, lifts_empty, back, lowers_empty, grips = (phase == each for each in range(1, 9))
    box = np.where(
        random.random(int(cycle.max()) + 1) < 0.25, 4.0, random.normal(21, 5.5, int(cycle.max()) + 1)
    )
    heavy_ship = 1.0 * fresh(plant, (0.2, 0.35))
    mass = np.clip(box[cycle] + 2.5 * heavy_ship, 3, 40)
    loaded = lifts | out | lowers
    load = 11.5 + mass * np.where(loaded, 1.0, np.where(sets, 1 - done, np.where(grips, 0.1 * done, 0.0)))
    trapeze = np.minimum(1.0, np.minimum(done, 1 - done) * 4.5)
    rated = np.where(loaded, 90 - 1.1 * mass, 150.0)
    up, down = lifts | lifts_empty, lowers | lowers_empty
    hoist = (1.0 * up - 1.0 * down) * rated * trapeze
    trolley = (1.0 * out - 1.0 * back) * 210 * trapeze
    hangs = np.where(
        phase > 0, np.where(up, 34 - 24 * (1 - done), np.where(down, 34 - 24 * done, 34.0)), 34.0
    )
    brake, gear, wheel, rope = (
        harm("brake_drags"),
        harm("gear_tooth_worn"),
        harm("trolley_wheel_flat"),
        harm("rope_sheave_stiff"),
    )
    gusts = 6.5 + 2.0 * wander(random, rows, 2400) + 1.1 * wander(random, rows, 9)
    sway = wander(random, rows, 6)
    moving = hoist != 0
    lifted = np.gradient(hoist) * 0.7
    torque = np.where(
        moving,
        load * np.where(up, 1.95, 1.45) + lifted * 0.6 + (24 * rope + 18 * brake) * np.sign(hoist),
        0.0,
    )
    amperes = np.abs(torque) * 4.3 + np.where(moving, 95 + 0.4 * np.abs(hoist), 0.0)
    runs = trolley != 0
    driven = np.where(
        runs, 42 + 0.14 * np.abs(trolley) + 0.35 * load + 2.0 * np.abs(gusts - 6) + 26 * wheel, 0.0
    )
    air = ambient(random, plant.seconds, 1.2, 12)
    knock = heavy(random, rows, 1.0)
    add("hoist_speed_m_min", "elec", hoist, np.where(moving, 0.5, 0.0), 0.3 * sway * moving, 0.2, signed=True)
    add("hoist_current_a", "elec", amperes, np.where(moving, 5.0, 0.6), 6 * sway * moving, 1)
    add("hoist_torque_pct", "elec", torque, np.where(moving, 1.0, 0.1), 1.3 * sway * moving, 0.5, signed=True)
    add("hook_load_t", "press", load, 0.12, 0.25 * sway * (moving | runs) + lifted * 0.02, 0.1)
    add("hoist_height_m", "level", hangs, 0.02, 0.0, 0.05)
    add("trolley_speed_m_min", "elec", trolley, np.where(runs, 0.9, 0.0), 0.8 * sway * runs, 0.5, signed=True)
    add("trolley_current_a", "elec", driven, np.where(runs, 1.6, 0.2), 1.5 * sway * runs, 0.5)
    add(
        "brake_gap_mm",
        "level",
        np.where(moving, 1.25 - 0.2 * worn(plant, 30000) - 0.5 * brake, 0.0),
        0.02,
        0.0,
        0.01,
    )
    motor = lag(air + 18 + 0.11 * amperes, steps(1700))
    add("hoist_motor_c", "temp", motor, 0.25, 0.0, 0.5)
    drum = lag(air + 4 + 0.02 * amperes + 55 * brake * moving + 0.2 * gusts, steps(260))
    add("brake_disc_c", "temp", drum, 0.4, 0.0, 0.5)
    rattle = 0.15 + np.where(
        moving, 1.1 + 0.011 * np.abs(hoist) + 0.018 * load + 2.8 * gear * (load / 25), 0.0
    )
    add("gear_vib_mm_s", "vib", rattle, np.where(moving, 0.16, 0.02), 0.12 * knock * moving, 0.02)
    add("gear_oil_c", "temp", lag(air + 9 + 0.05 * amperes, steps(3600)), 0.12, 0.0, 0.1)
    rolls = 0.1 + np.where(runs, 0.6 + 0.006 * np.abs(trolley) + 2.4 * wheel * np.abs(trolley) / 210, 0.0)
    add("trolley_vib_mm_s", "vib", rolls, np.where(runs, 0.14, 0.02), 0.1 * knock * runs, 0.02)
    add("wind_m_s", "flow", gusts, 0.35, 0.0, 0.1)
    return phase > 0


def _sugar_centrifuge(plant: Plant, harm: Harm) -> Mask:
    """A batch centrifuge for sugar: charge, spin up, wash and spin, brake, plough out; eight sensors, short waits for massecuite."""
    add, random, rows, steps = plant.add, plant.random, plant.rows, plant.steps

    def charge(_: int) -> tuple[int, list[int]]:
        waits = int(random.choice([0, 1, 3, 25], p=[0.6, 0.25, 0.12, 0.03]))
        return waits, [
            4,
            int(random.integers(6, 8)),
            int(random.integers(7, 10)),
            5,
            int(random.integers(5, 8)),
        ]

    phase, done, cycle = cycles(rows, charge)
    fills, starts, spins, brakes, ploughs = (phase == each for each in range(1, 6))
    busy = phase > 0
    unlike, viscous = per_cycle(random, cycle, 1.2), per_cycle(random, cycle, 40)
    coarse = 1.0 * fresh(plant, (0.15, 0.35))
    full = 1 + 0.02 * viscous + 0.03 * coarse
    uneven, dry, bearing = harm("basket_unbalanced"), harm("screen_clogged"), harm("bearing_worn")
    wash, fan = harm("wash_valve_leaks"), harm("drive_cooling_fails")
    steps_of = [
        np.full(rows, 250.0),
        250 + 930 * done,
        np.full(rows, 1180.0),
        1180 - 1110 * done,
        np.full(rows, 62.0),
    ]
    speed = np.select([fills, starts, spins, brakes, ploughs], steps_of, 0.0)
    turn = speed / 1180
    draw = wander(random, rows, 3)
    mass = (
        np.select([fills, starts, spins, brakes], [done, 1 - 0.2 * done, 0.8 - 0.1 * done, 0.7], 0.0) * full
    )
    mass = mass + 0.12 * dry * (spins | brakes)
    power = np.select(
        [fills, starts, spins, brakes, ploughs],
        [18 + 9 * mass, 205 * mass, 38 + 22 * mass, -140 * mass, 12],
        2.0,
    )
    air = ambient(random, plant.seconds, 2.5, 31)
    tremble = heavy(random, rows, 1.0, 4)
    add("basket_rpm", "elec", speed, np.where(busy, 1.5, 0.0), 1.0 * draw * busy, 1)
    add(
        "drive_kw",
        "elec",
        power + 9 * bearing * turn,
        np.where(busy, 1.6, 0.1),
        2.5 * draw * busy,
        0.5,
        signed=True,
    )
    heat = lag(np.abs(power) * (1 + 0.35 * fan), steps(1200))
    add("motor_winding_c", "temp", air + 14 + 0.48 * heat, 0.3, 0.0, 0.5)
    shakes = 0.2 + turn * (1.2 + 0.15 * np.abs(unlike) + 0.5 * starts + 3.2 * uneven + 0.9 * bearing)
    add("basket_vib_mm_s", "vib", shakes, 0.04 + 0.13 * turn, (0.1 * tremble + 0.1 * unlike) * turn, 0.02)
    add("bearing_c", "temp", lag(air + 21 * turn + 26 * bearing * turn + 4, steps(1500)), 0.15, 0.0, 0.1)
    washes = spins & (done > 0.15) & (done < 0.55)
    water = np.where(washes, 62 * (1 - 0.2 * wash), 5.0 * wash)
    add("wash_l_min", "flow", water, np.where(washes, 1.2, 0.05), 0.8 * draw * washes, 0.5)
    drains = np.select([fills, starts, spins], [15 + 10 * done, 60 - 25 * done, 22 - 9 * done], 1.5) * full
    syrup = lag(drains * (1 - 0.35 * dry) + 0.4 * water, 1.5)
    add("syrup_l_min", "flow", syrup, np.where(busy, 0.9, 0.2), 1.1 * viscous * (starts | spins), 0.5)
    add(
        "feed_massecuite_c",
        "temp",
        62 + 1.5 * viscous + 0.8 * coarse,
        0.25,
        0.25 * wander(random, rows, 60),
        0.1,
    )
    return busy


PROCESS = {
    "pasteuriser": Machine(
        304, 10000, 5000, 30, 4, _pasteuriser,
        ("regenerator_fouled", "feed_pump_worn", "steam_valve_sticks", "chiller_loses_duty", "caustic_dosing_weak", "homogeniser_valve_worn"),
    ),
    "harbour_crane": Machine(
        305, 15000, 6000, 1, 8, _harbour_crane,
        ("brake_drags", "gear_tooth_worn", "trolley_wheel_flat", "rope_sheave_stiff"),
    ),
    "sugar_centrifuge": Machine(
        306, 9000, 4500, 5, 5, _sugar_centrifuge,
        ("basket_unbalanced", "screen_clogged", "bearing_worn", "wash_valve_leaks", "drive_cooling_fails"),
    ),
}  # fmt: skip
"""Machines by name."""
