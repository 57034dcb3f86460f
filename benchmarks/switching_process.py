"""Eight machines that process what flows, of those in `benchmarks/switching_machines.py`."""

from __future__ import annotations

import numpy as np

from benchmarks.switching_faults import Made, with_faults
from benchmarks.switching_plant import Plant
from benchmarks.switching_signals import (
    DAY,
    HOUR,
    Mask,
    Numbers,
    Rows,
    age,
    ambient,
    lag,
    lay_phases,
    pieces,
    shifts,
    wander,
)


def compressor(seed: int, mix: float) -> Made:
    """A screw compressor, steps of 20 s: loads and unloads by the pressure of its receiver, stops after six minutes without load."""
    plant = Plant(seed, 104, 9000, 5000, 20, start_hour=4)
    add, random, rows, steps = plant.add, plant.random, plant.rows, plant.steps
    day = shifts(random, plant.seconds, [(6, 21)], 7, 12)
    wanted = np.where(day, 0.58, 0.25) + wander(random, rows, 90, 0.09) + wander(random, rows, 9, 0.04)
    demand = np.clip(wanted, 0.08, 0.93)
    pressure, state = _loaded(demand, random.normal(0, 0.02, rows))
    on, full = state > 0, state == 2
    air = ambient(random, plant.seconds, 4, 20)
    swing, mains = wander(random, rows, 12), wander(random, rows, 40)

    def either(loaded: Rows | float, unloaded: Rows | float, stopped: float) -> Rows:
        return np.select([full, on], [loaded, unloaded], stopped)

    power = either(51 + 2.6 * (pressure - 6.8), 17.5, 0.25)
    current = either(92 + 4.5 * (pressure - 6.8), 43.0, 0.1)
    element = lag(air + either(63.0, 48.0, 10.0), steps(150), steps(500))
    add("receiver_bar", "press", pressure, 0.012, 0, 0.01, mate=("outlet_flow_m3_min", 0.7))
    add("motor_power_kw", "elec", power, either(0.35, 0.2, 0.01), (0.5 * swing) * full, 0.1)
    shared = 0.9 * swing * full - 0.6 * mains * on
    add("motor_current_a", "elec", current, either(0.5, 0.4, 0.03), shared, 0.1)
    add("element_out_c", "temp", element, 0.3, 0.4 * swing, 0.1, mate=("oil_temp_c", 0.7))
    add("oil_temp_c", "temp", lag(air + either(44.0, 35.0, 8.0), steps(500)), 0.2, 0.2 * swing, 0.1)
    add("sump_bar", "press", lag(either(pressure + 0.35, 1.6, 0.2), 1.2), 0.03, 0, 0.01)
    own, shared, mate = np.where(on, 3.0, 0.5), -1.5 * swing * full, ("outlet_flow_m3_min", -0.5)
    add("intake_mbar", "press", either(-18.0, -620.0, 0.0), own, shared, 1, signed=True, mate=mate)
    flow, own = full * (8.4 - 0.12 * (pressure - 6.8)), np.where(full, 0.06, 0.01)
    add("outlet_flow_m3_min", "flow", flow, own, 0.05 * swing * full, 0.01, active=full)
    add("vib_mm_s", "vib", either(2.6, 3.3, 0.08), np.where(on, 0.12, 0.01), 0.06 * swing * on, 0.01)
    bearing = lag(air + either(34.0, 29.0, 6.0), steps(1200))
    add("motor_brg_c", "temp", bearing, 0.15, 0, 0.1, mate=("vib_mm_s", 0.6))
    add("cool_air_out_c", "temp", lag(air + either(17.0, 8.0, 1.0), steps(200)), 0.25, 0, 0.1)
    return with_faults(plant, mix, on, state)


def _loaded(demand: Rows, limits: Rows) -> tuple[Rows, Numbers]:
    """Pressure in bar and state (0 stopped, 1 unloaded, 2 loaded) by step of a compressor that keeps 6.8 to 7.5 bar at this demand."""
    pressures, states = np.empty(len(demand)), np.zeros(len(demand), np.int64)
    pressure, state, unloaded = 7.0, 2, 0
    for row in range(len(demand)):
        if state == 2 and pressure > 7.5 + limits[row]:
            state, unloaded = 1, 0
        elif state < 2 and pressure < 6.8 + limits[row]:
            state = 2
        elif state == 1:
            unloaded += 1
            if unloaded > 18:
                state = 0
        pressure += ((1.0 if state == 2 else 0.0) - demand[row]) * 0.13
        pressures[row], states[row] = pressure, state
    return pressures, states


def oven(seed: int, mix: float) -> Made:
    """An oven of four zones, steps of 60 s: powers jump with the recipe, temperatures follow within a quarter of an hour, slower downwards."""
    plant = Plant(seed, 106, 7000, 4500, 60, start_hour=6)
    add, random, rows = plant.add, plant.random, plant.rows
    points = np.array([0, 180, 210, 245, 280.0])
    last = 2

    def another(_: int) -> tuple[float, float]:
        nonlocal last
        last = int(random.choice([each for each in range(5) if each != last]))
        return random.integers(90, 200) if last == 0 else random.integers(110, 380), last

    recipe = pieces(rows, another)[0].astype(np.int64)
    run = recipe > 0
    air = ambient(random, plant.seconds, 2.5, 22)
    fan = np.where(recipe >= 3, 1.0, 0.8) * run
    product, door = wander(random, rows, 25) * run, wander(random, rows, 8) * run
    zones = []
    for zone in range(4):
        memory = random.uniform(9, 18)
        wanted = np.where(run, points[recipe] + random.uniform(-12, 12), air + 6)
        zones.append(lag(wanted, memory, memory * 2.6))
        hold = (zones[-1] - air) * random.uniform(0.085, 0.11) * run
        rise = np.concatenate([[0], np.diff(zones[-1])])
        power = np.clip(hold + rise * 2.4 * run, 0, 46)
        add(f"zone{zone + 1}_temp_c", "temp", zones[-1], 0.35, -0.5 * door - 0.25 * product, 0.1)
        if zone < 3:
            own, shared = np.where(run, 0.15, 0.01), 0.5 * product + 0.35 * door
            add(f"zone{zone + 1}_power_kw", "elec", power, own, shared, 0.1)
    above = np.mean(zones, 0) - air
    add("exhaust_temp_c", "temp", lag(air + above * 0.55 * (0.6 + 0.4 * fan), 6), 0.6, -0.3 * product, 0.1)
    add("wall_temp_c", "temp", lag(air + above * 0.14, 80), 0.15, 0, 0.5)
    add("fan_current_a", "elec", 9.5 * fan**2 + 0.1, np.where(run, 0.07, 0.01), -0.04 * door, 0.01)
    add("fan_vib_mm_s", "vib", 0.04 + 2.1 * fan, np.where(run, 0.09, 0.006), 0, 0.01)
    bearing = lag(air + fan * 17 + above * 0.05, 22)
    add("fan_brg_c", "temp", bearing, 0.18, 0, 0.1, mate=("fan_vib_mm_s", 0.6))
    add("exhaust_flow_m3_h", "flow", 1850 * fan, np.where(run, 14.0, 2.0), 10 * door, 5)
    return with_faults(plant, mix, run, recipe)


def pump_station(seed: int, mix: float) -> Made:
    """A sump with two pumps, steps of 30 s: the level starts and stops them, they take turns, both run when most flows in."""
    plant = Plant(seed, 107, 8000, 5000, 30)
    add, random, rows, steps = plant.add, plant.random, plant.rows, plant.steps
    day = 32 * np.cos(2 * np.pi * (plant.seconds - 8.5 * HOUR) / DAY)
    half = 14 * np.cos(4 * np.pi * (plant.seconds - 7 * HOUR) / DAY)
    inflow = 68 + day + half + wander(random, rows, 120, 7) + wander(random, rows, 12, 3)
    level, first, second = _pumped(np.clip(inflow, 8, None), plant.step_seconds)
    on, both = first | second, first & second
    flow = (118 * first + 109 * second) * np.where(both, 0.86, 1.0) * (1 + 0.02 * (level - 1.6))
    swing = wander(random, rows, 15)
    air = ambient(random, plant.seconds, 2, 16)
    add("sump_level_m", "level", level, 0.006, 0, 0.005, active=on)
    own, mate = np.where(on, 0.9, 0.1), ("header_bar", -0.7)
    add("flow_m3_h", "flow", flow, own, -1.0 * swing * on, 0.5, mate=mate)
    header, mate = np.select([both, on], [2.75, 2.2], 1.45), ("flow_m3_h", 0.6)
    add("header_bar", "press", header, 0.015, 0.025 * swing * on, 0.01, mate=mate)
    for name, runs, amperes, shakes in (("a", first, 21.4, 1.4), ("b", second, 23.1, 2.0)):
        current = runs * (amperes - 1.0 * both) + 9 * (age(runs) == 1)
        own = np.where(runs, 0.13, 0.01)
        add(f"current_{name}_a", "elec", current, own, 0.2 * swing * runs, 0.1, active=runs)
        shaking = 0.06 + runs * (shakes + 0.5 * both)
        add(f"vib_{name}_mm_s", "vib", shaking, np.where(runs, 0.1, 0.008), 0, 0.01, active=runs)
        bearing, mate = lag(air + runs * 27.0, steps(700), steps(1500)), (f"vib_{name}_mm_s", 0.6)
        add(f"brg_temp_{name}_c", "temp", bearing, 0.18, 0, 0.1, active=runs, mate=mate)
        winding, mate = lag(air + runs * 44.0, steps(500), steps(1100)), (f"current_{name}_a", 0.5)
        shared = 0.2 * lag(swing, 10)
        add(f"winding_{name}_c", "temp", winding, 0.3, shared, 0.5, active=runs, mate=mate)
    suction = 0.1 * level - 0.06 * first - 0.07 * second
    add("suction_bar", "press", suction, 0.004, -0.003 * swing * on, 0.001, signed=True)
    return with_faults(plant, mix, on, first + 2 * second)


def _pumped(inflow: Rows, step_seconds: float) -> tuple[Rows, Mask, Mask]:
    """Level in m of a sump of 3.6 m2 by inflow in m3/h, and when each of its pumps runs."""
    levels = np.empty(len(inflow))
    runs = np.zeros((2, len(inflow)), np.bool_)
    level, turn, first, second = 1.5, 0, False, False
    for row in range(len(inflow)):
        if level > 2.2 and not (first or second):
            first, second = turn == 0, turn == 1
            turn = 1 - turn
        elif level > 2.6:
            first = second = True
        elif level < 1.1:
            first = second = False
        out = (118 * first + 109 * second) * (1.0 if first != second else 0.86)
        level += (inflow[row] - out) * step_seconds / 3600 / 3.6
        levels[row], runs[0, row], runs[1, row] = level, first, second
    return levels, runs[0], runs[1]


def weekend_extruder(seed: int, mix: float) -> Made:
    """An extrusion line, steps of 120 s: runs day and night, stands from Saturday to Monday, is heated three hours before it starts."""
    start = float(np.random.default_rng([seed, 109, 9]).uniform(8, 60))
    plant = Plant(seed, 109, 10000, 5000, 120, start_hour=start)
    add, random, rows, steps = plant.add, plant.random, plant.rows, plant.steps
    hour = (plant.seconds % (7 * DAY)) / HOUR
    week = (plant.seconds // (7 * DAY)).astype(np.int64)
    stop = 5 * 24 + 13 + random.normal(0, 1.0, week.max() + 1)[week]
    begin = 5 + random.normal(0, 0.5, week.max() + 1)[week]
    run = (hour >= begin) & (hour < stop)
    heated = run | (hour < begin) & (hour > begin - 3) | (hour > 7 * 24 + begin - 3)
    air = ambient(random, plant.seconds, 2.5, 22)
    pace = lag(run.astype(float), 4, 1)
    swing, batch = wander(random, rows, 30), wander(random, rows, 220)
    add("screw_rpm", "elec", 84 * pace, np.where(run, 0.25, 0), 0.5 * swing * run, 0.1)
    own, shared = np.where(run, 0.9, 0.05), (1.8 * swing + 1.6 * batch) * run
    add("motor_current_a", "elec", 158 * pace + 0.2, own, shared, 0.5)
    own, shared = np.where(run, 0.35, 0.02), (0.6 * swing + 0.9 * batch) * run
    add("torque_pct", "elec", 63 * pace, own, shared, 0.1)
    own, shared, mate = np.where(run, 0.8, 0.2), (1.2 * swing + 1.8 * batch) * run, ("motor_current_a", 0.4)
    add("melt_press_bar", "press", 142 * pace + 1, own, shared, 0.1, mate=mate)
    for zone, wanted in enumerate((185, 198, 205, 208)):
        warm = lag(np.where(heated, wanted, air), steps(1900), steps(9000))
        control = wander(random, rows, 15, 0.25) + 0.2 * batch * run
        add(f"zone{zone + 1}_c", "temp", warm, 0.2, control, 0.1)
    add("haul_off_m_min", "flow", 12.4 * pace, np.where(run, 0.02, 0), 0.05 * swing * run, 0.01)
    drawn, own = pace > 0.9, np.where(run, 0.012, 0)
    add("diameter_mm", "qual", 25 * drawn, own, (0.015 * swing - 0.01 * batch) * run, 0.001, active=drawn)
    bath = lag(np.where(run, 17.5, air - 1), steps(1500))
    add("bath_temp_c", "temp", bath, 0.12, (air - 22) * 0.12, 0.1)
    gearbox, mate = lag(air + 33 * pace, steps(4500)), ("gearbox_vib_mm_s", 0.6)
    add("gearbox_temp_c", "temp", gearbox, 0.2, lag(swing + batch, 20) * 0.5, 0.1, mate=mate)
    own = np.where(run, 0.08, 0.004)
    add("gearbox_vib_mm_s", "vib", 0.03 + 1.9 * pace, own, 0.03 * swing * run, 0.01)
    return with_faults(plant, mix, run, run)


def boiler_rare_load(seed: int, mix: float) -> Made:
    """A steam boiler, steps of 120 s: three loads, each held for two to three days, with an hour from one to the next."""
    plant = Plant(seed, 111, 10000, 5000, 120, start_hour=9)
    add, random, rows = plant.add, plant.random, plant.rows
    order = random.permutation(3).tolist()
    last = order[-1]

    def another(number: int) -> tuple[float, float]:
        nonlocal last
        last = order[number] if number < 3 else int(random.choice([x for x in range(3) if x != last]))
        return random.integers(1440, 2160) * (0.6 if number == 0 else 1), last

    state = pieces(rows, another)[0].astype(np.int64)
    wanted, ramp = np.array([0.55, 0.75, 0.95])[state], 30
    before = np.full(ramp - 1, wanted[0])
    load = np.convolve(np.concatenate([before, wanted]), np.ones(ramp) / ramp, "valid")
    demand, gas = wander(random, rows, 18), wander(random, rows, 300)
    outside = ambient(random, plant.seconds, 4, 14)
    warm = outside - 14
    add("steam_flow_t_h", "flow", 24 * load, 0.07, 0.28 * demand, 0.05, mate=("feedwater_t_h", 0.5))
    add("drum_press_bar", "press", 21.5 - 0.8 * load, 0.025, -0.05 * demand, 0.01)
    level = 3.5 * demand - 1.5 * lag(demand, 10)
    add("drum_level_mm", "level", 0.0, 1.6, level, 0.5, signed=True)
    mate = ("drum_level_mm", -0.6)
    add("feedwater_t_h", "flow", 24.6 * load, 0.1, 0.25 * lag(demand, 4), 0.05, mate=mate)
    add("feedwater_c", "temp", 104 + 2 * load, 0.2, wander(random, rows, 60) * 0.3, 0.1)
    add("gas_m3_h", "flow", 1900 * load, 5, 20 * demand - 8 * gas, 1)
    add("air_m3_h", "flow", 20800 * load + 400, 60, 190 * demand, 10)
    add("o2_pct", "qual", 4.6 - 1.9 * load, 0.05, 0.07 * gas - 0.04 * demand, 0.01)
    add("flue_c", "temp", lag(118 + 46 * load, 15), 0.35, 0.8 * lag(demand, 6) + warm * 0.15, 0.1)
    shared, mate = 0.7 * demand - warm * 0.05, ("fan_vib_mm_s", 0.5)
    add("fan_current_a", "elec", 22 + 40 * load**2, 0.2, shared, 0.1, mate=mate)
    add("fan_vib_mm_s", "vib", 1.2 + 0.9 * load, 0.07, 0, 0.01)
    bearing, mate = lag(24 + 22 * load, 20) + warm * 0.5, ("fan_vib_mm_s", 0.6)
    add("fan_brg_c", "temp", bearing, 0.15, lag(demand, 10) * 0.2, 0.1, mate=mate)
    add("furnace_mbar", "press", 8 * load**2 - 1, 0.1, 0.15 * demand, 0.05, signed=True)
    return with_faults(plant, mix, np.ones(rows, np.bool_), state)


def continuous_control(seed: int, mix: float) -> Made:
    """A distillation column, steps of 60 s, for comparison: it never switches; twelve sensors see feed, heat and weather."""
    plant = Plant(seed, 112, 8000, 5000, 60)
    random, rows = plant.random, plant.rows
    feed, heat = wander(random, rows, 40), wander(random, rows, 90)
    weather = ambient(random, plant.seconds, 0.9, 0)
    sensors: list[tuple[str, str, float, float, tuple[float, float, float], float]] = [
        ("feed_m3_h", "flow", 42, 0.12, (0.9, 0, 0), 0.1),
        ("reflux_m3_h", "flow", 31, 0.1, (0.5, 0.4, 0), 0.1),
        ("bottoms_m3_h", "flow", 18, 0.08, (0.4, -0.25, 0), 0.05),
        ("steam_t_h", "flow", 6.4, 0.02, (0.09, 0.11, -0.02), 0.01),
        ("top_temp_c", "temp", 78.4, 0.06, (0.08, 0.3, 0.12), 0.1),
        ("mid_temp_c", "temp", 96.2, 0.08, (-0.15, 0.55, 0.05), 0.1),
        ("bottom_temp_c", "temp", 118.6, 0.07, (-0.1, 0.4, 0), 0.1),
        ("top_press_mbar", "press", 1080, 0.5, (0.8, 2.2, 0.9), 0.5),
        ("dp_mbar", "press", 64, 0.25, (1.1, 0.8, 0), 0.1),
        ("pump_current_a", "elec", 14.2, 0.05, (0.2, 0.03, 0), 0.02),
        ("pump_vib_mm_s", "vib", 1.7, 0.06, (0.05, 0, 0), 0.01),
        ("pump_brg_c", "temp", 51, 0.12, (0.15, 0.0, 0.9), 0.1),
    ]
    mates = {"pump_brg_c": ("pump_vib_mm_s", 0.6), "bottoms_m3_h": ("dp_mbar", -0.4)}
    for name, kind, mean, own, (by_feed, by_heat, by_weather), resolution in sensors:
        fed = by_feed * lag(feed, random.uniform(0.5, 3))
        shared = fed + by_heat * lag(heat, random.uniform(0.5, 6)) + by_weather * weather
        plant.add(name, kind, mean, own, shared, resolution, mate=mates.get(name))
    return with_faults(plant, mix, np.ones(rows, np.bool_), np.zeros(rows, np.int64))


def batch_reactor(seed: int, mix: float) -> Made:
    """A batch reactor, steps of 60 s: fills, heats, reacts, cools, drains and waits, by one of three recipes."""
    plant = Plant(seed, 113, 8000, 5000, 60, start_hour=3)
    add, random, rows = plant.add, plant.random, plant.rows
    phase, recipe, batch = (np.zeros(rows, np.int64) for _ in range(3))
    done = np.zeros(rows)
    at = number = 0
    while at < rows:
        begin, chosen = at, int(random.integers(0, 3))
        usual = [12, 35 + 8 * chosen, 60 + 30 * chosen, 40, 10, random.integers(8, 60)]
        at = lay_phases(phase, done, at, (round(each * random.uniform(0.95, 1.05)) for each in usual))
        recipe[begin:at], batch[begin:at] = chosen, number
        number += 1
    phase %= 6
    run = phase > 0
    fills, heats, reacts, cools, drains = (phase == each for each in range(1, 6))
    middle = heats | reacts | cools
    goal = np.array([72.0, 88.0, 110.0])[recipe]
    level = np.select([fills, middle, drains], [10 + 70 * done, 80, 80 - 70 * done], 8.0)
    level = level - 4.0 * (recipe == 0) * middle
    wanted = np.select([heats, reacts, cools], [goal + 28, goal + 3 - 8 * np.exp(-done * 3), 15], 25.0)
    jacket = lag(wanted, 5)
    inside = lag(jacket, 14)
    speed = np.where(run, np.array([60.0, 90.0, 120.0])[recipe], 0)
    stirs = speed > 0
    of_batch = wander(random, number + 1, 2)[batch] * run
    swing = wander(random, rows, 12) * run
    viscous = np.where(reacts, 1 + 0.6 * done, 1.0) * stirs
    air = ambient(random, plant.seconds, 2, 20)
    add("reactor_temp_c", "temp", inside, 0.12, 0.25 * of_batch + 0.12 * swing, 0.1)
    add("jacket_in_c", "temp", jacket, 0.25, 0.3 * swing, 0.1)
    back = lag(0.7 * jacket + 0.3 * inside, 2)
    add("jacket_out_c", "temp", back, 0.2, 0.25 * swing + 0.15 * of_batch, 0.1)
    add("level_pct", "level", level, 0.15, 0.3 * of_batch * middle, 0.1)
    pressure = 1.01 + middle * 0.0006 * np.clip(inside - 30, 0, None) ** 1.6
    shared, mate = 0.012 * of_batch * middle, ("level_pct", -0.4)
    add("reactor_press_bar", "press", pressure, 0.008, shared, 0.001, mate=mate)
    add("stirrer_rpm", "elec", speed, np.where(stirs, 0.3, 0), 0, 1)
    power, own = speed / 120 * 5.5 * viscous * level / 80 + 0.05, np.where(stirs, 0.05, 0.003)
    add("stirrer_kw", "elec", power, own, (0.06 * swing + 0.08 * of_batch) * stirs, 0.01)
    steams, mate = heats | reacts, ("jacket_in_c", -0.5)
    steam, own = np.select([heats, reacts], [310 - 90 * done, 60], 0.0), np.where(steams, 3.0, 0.1)
    add("steam_kg_h", "flow", steam, own, 3 * swing * steams, 1, active=steams, mate=mate)
    water = np.where(cools, 8.5, np.where(run, 0.6, 0.0))
    add("cooling_m3_h", "flow", water, 0.05, 0.05 * swing, 0.01)
    add("seal_press_bar", "press", np.where(run, 3.4, 2.0), 0.03, wander(random, rows, 80) * 0.03, 0.01)
    bearing, mate = lag(air + speed / 120 * 24, 22), ("gear_vib_mm_s", 0.6)
    add("gear_brg_c", "temp", bearing, 0.15, 0.1 * swing, 0.1, mate=mate)
    own = np.where(stirs, 0.06, 0.004)
    add("gear_vib_mm_s", "vib", 0.03 + speed / 120 * 1.5, own, 0.03 * swing, 0.01)
    return with_faults(plant, mix, run, phase * 3 + recipe)


def staged_chiller(seed: int, mix: float) -> Made:
    """A chiller, steps of 300 s: none to three compressors on, by its load."""
    plant = Plant(seed, 114, 6000, 4000, 300)
    add, random, rows = plant.add, plant.random, plant.rows
    air = ambient(random, plant.seconds, 5.5, 17)
    work = lag(shifts(random, plant.seconds, [(6, 20)], 6, 15).astype(float), 4)
    need = np.clip(0.25 + 0.075 * (air - 12) + 1.1 * work + wander(random, rows, 20, 0.18), 0, 2.95)
    stage = _staged(need)
    on = stage > 0
    use = np.where(on, np.clip(need / np.maximum(stage, 1), 0.3, 1.02), 0)
    swing = wander(random, rows, 5)
    for each in range(3):
        runs = stage > each
        power, own = runs * (14 + 58 * use), np.where(runs, 0.5, 0.03)
        add(f"comp{each + 1}_power_kw", "elec", power, own, 0.9 * swing * runs, 0.1, active=runs)
        hot = lag(np.where(runs, 48 + 14 * use + 0.6 * (air - 17), air + 4), 1.5, 4)
        add(f"comp{each + 1}_disch_c", "temp", hot, 0.35, 0.3 * swing, 0.1, active=runs)
    add("chilled_out_c", "temp", lag(np.where(on, 6.2, 11.5), 3), 0.1, 0.12 * swing, 0.1)
    returned = lag(np.where(on, 6.2 + 1.9 * np.minimum(need, 3), 12.3), 3)
    add("chilled_in_c", "temp", returned, 0.1, 0.15 * swing, 0.1)
    condenser, mate = 7.5 + on * (2.6 * use + 0.1 * (air - 17)), ("comp1_power_kw", 0.5)
    add("cond_press_bar", "press", condenser, 0.05, 0.07 * swing * on, 0.01, mate=mate)
    evaporator = np.where(on, 3.1 - 0.1 * stage, 4.6)
    add("evap_press_bar", "press", evaporator, 0.02, -0.02 * swing * on, 0.01)
    add("water_flow_m3_h", "flow", np.where(on, 60 + 45 * stage, 20), 0.8, 0, 0.5)
    shaking = 0.05 + on * (0.8 + 0.25 * stage)
    add("fan_vib_mm_s", "vib", shaking, np.where(on, 0.06, 0.005), 0, 0.01)
    return with_faults(plant, mix, on, stage)


def _staged(need: Rows) -> Numbers:
    """How many compressors run, with hysteresis and for more than two steps each, where so many are needed."""
    stages = np.zeros(len(need), np.int64)
    stage, held = 1, 0
    for row in range(len(need)):
        held += 1
        if held > 2 and need[row] > stage * 0.97 + 0.02 and stage < 3:
            stage, held = stage + 1, 0
        elif held > 2 and stage > 0 and need[row] < (stage - 1) * 0.97 - 0.12 + 0.15 * (stage == 1):
            stage, held = stage - 1, 0
        stages[row] = stage
    return stages
