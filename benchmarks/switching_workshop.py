"""Six machines that make or move pieces, of those in `benchmarks/switching_machines.py`."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from benchmarks.switching_faults import Common, Made, with_faults
from benchmarks.switching_plant import Plant
from benchmarks.switching_signals import (
    Rows,
    age,
    ambient,
    lag,
    lay_phases,
    pieces,
    shifts,
    stretches,
    wander,
)


def machine_tool(seed: int, mix: float) -> Made:
    """A lathe in two shifts of a working week, steps of 60 s: idle in breaks and between jobs, in a job some parts at its own speed and feed."""
    plant = Plant(seed, 101, 10000, 5000, 60, start_hour=5)
    add, random, rows, steps = plant.add, plant.random, plant.rows, plant.steps
    on = shifts(random, plant.seconds, [(6, 22)])
    breaks = shifts(random, plant.seconds, [(9, 9.4), (12, 12.6), (17.5, 18.1)])
    speeds = np.array([900, 1400, 2200, 3200, 4500.0])
    speed, job = pieces(
        rows, lambda _: (random.integers(20, 110), random.choice(speeds) * random.uniform(0.93, 1.07))
    )
    depth = random.uniform(0.5, 1.15, job.max() + 1)[job]
    feed = random.uniform(250, 900, job.max() + 1)[job]
    cut = stretches(rows, 0, lambda: (int(random.integers(4, 14)), int(random.integers(1, 4))))
    begins = np.concatenate([[True], job[1:] != job[:-1]])
    setup = np.convolve(begins, np.ones(6), "full")[:rows] > 0
    cut &= on & ~breaks & ~setup
    idle = on & ~cut
    spin = np.where(cut, speed, np.where(idle & ~breaks & ~setup, speed * 0.5, 0))
    turns = spin > 0
    wear = (np.arange(rows) % int(random.integers(900, 1500))) / 1500.0
    power = cut * (1.2 + speed / 1000 * 1.1 * depth * (1 + 0.12 * wear)) + turns * 0.6
    load = wander(random, rows, 6) * cut
    air = ambient(random, plant.seconds, 2.0, 21)
    warmed = lag(air + spin / 4500 * 24 + on * 2, steps(1500), steps(2700))
    current = on * 1.1 + cut * (2 + feed / 200 + 1.5 * depth)
    pressure = np.where(cut, 18.0, np.where(on, 1.5, 0.05))
    shaking = 0.05 + turns * (0.4 + spin / 4500 * 0.9) + cut * 0.5 * depth
    add("spindle_speed_rpm", "set", spin, np.where(turns, 3.0, 0.0), resolution=1)
    own = np.where(on, 0.04 + 0.05 * cut, 0.004)
    add("spindle_power_kw", "elec", power + on * 0.35, own, load * 0.12 * (depth + 0.3), 0.01)
    own = np.where(cut, 0.9, 0.15)
    add("spindle_load_pct", "elec", power / 14 * 100, own, load * 0.85 * (depth + 0.3), 0.1)
    add("feed_mm_min", "set", cut * feed, np.where(cut, 2.0, 0.0), resolution=1)
    add("axis_current_a", "elec", current, np.where(on, 0.09, 0.01), load * 0.12, 0.02)
    add("bearing_temp_c", "temp", warmed, 0.18, lag(load, 10) * 0.3, 0.1, mate=("vib_mm_s", 0.6))
    add("coolant_temp_c", "temp", lag(air + cut * 6 * depth + on * 1.5, steps(4000)), 0.12, 0, 0.1)
    own, mate = np.where(cut, 0.22, 0.04), ("coolant_flow_l_min", -0.6)
    add("coolant_press_bar", "press", pressure, own, resolution=0.01, active=cut, mate=mate)
    own = np.where(cut, 0.5, 0.05)
    add("coolant_flow_l_min", "flow", np.where(cut, 32.0, 0), own, resolution=0.1, active=cut)
    add("vib_mm_s", "vib", shaking, np.where(turns, 0.06, 0.006), load * 0.05, 0.001)
    own = np.where(on, 0.4, 0.05)
    add("hyd_press_bar", "press", np.where(on, 62.0, 0.3), own, wander(random, rows, 60) * 0.3 * on, 0.1)
    add("cabinet_temp_c", "temp", lag(air + 4 + on * 7 + power * 0.3, steps(3600)), 0.1, 0, 0.5)
    return with_faults(plant, mix, cut, cut * 2 + idle)


def injection_moulding(seed: int, mix: float) -> Made:
    """An injection moulding machine, steps of 10 s: cycles of 31 to 57 steps of six phases, now and then a stop, and two moulds in turn."""
    plant = Plant(seed, 102, 8000, 5000, 10, start_hour=6)
    add, random, rows, steps = plant.add, plant.random, plant.rows, plant.steps
    phase, mould, cycle = (np.zeros(rows, np.int64) for _ in range(3))
    done = np.zeros(rows)
    at = number = fitted = 0
    left = 40
    usual = [int(random.integers(32, 40)), int(random.integers(46, 57))]
    shares = np.array([0.07, 0.1, 0.22, 0.25, 0.28, 0.08])
    while at < rows:
        stop = 0
        if left == 0:
            fitted, left = 1 - fitted, int(random.integers(35, 75))
            stop = int(random.integers(30, 90))
        if random.random() < 0.02:
            stop += int(random.integers(8, 40))
        lasts = usual[fitted] + int(random.choice([-1, 0, 0, 0, 1]))
        mould[at : at + stop + lasts], cycle[at : at + stop + lasts] = fitted, number
        ends = np.round(np.cumsum(shares) * lasts).astype(int).tolist()
        lay_phases(phase, done, at + stop, [end - begin for begin, end in pairwise([0, *ends])])
        at, number, left = at + stop + lasts, number + 1, left - 1
    run = phase > 0
    thick = wander(random, cycle.max() + 1, 8)[cycle] * run
    other = wander(random, cycle.max() + 1, 3)[cycle] * run
    peak = np.array([780.0, 1050.0])[mould]
    closes, injects, holds, doses, cools, opens = (phase == each for each in range(1, 7))
    pressure = np.select(
        [injects, holds, doses, run], [peak * (0.35 + 0.65 * done), peak * 0.62 - 40 * done, 95, 6], 2.0
    )
    shot = np.array([85.0, 140.0])[mould]
    position = np.select(
        [injects, holds, doses], [shot - (shot - 14) * done, 14 - 4 * done, 10 + (shot - 10) * done], shot
    )
    speed = np.where(doses, np.array([140.0, 95.0])[mould], 0)
    shut = np.array([1450.0, 1800.0])[mould]
    closed = (phase >= 2) & (phase <= 5)
    clamp = np.select([closes, closed, opens], [1500 * done, shut, 1200 * (1 - done)], 0.0)
    power = np.select([closes, injects, holds, doses, cools, opens], [18, 46, 15, 31, 6, 14], 3.0)
    power = power * np.array([0.85, 1.1])[mould]
    oil = lag(28 + lag(power, 100) * 1.1, steps(3600))
    air = ambient(random, plant.seconds, 1.2, 23)
    heat = np.array([228.0, 241.0])[mould]
    cooling = np.where(run, np.array([24.0, 31.0])[mould], 12.0)
    own, mate = np.where(run, 3 + 0.006 * pressure, 0.4), ("screw_pos_mm", -0.4)
    add("inj_pressure_bar", "press", pressure, own, thick * 0.012 * pressure, 1, mate=mate)
    add("screw_pos_mm", "level", position, 0.18, other * 0.3, 0.1)
    add("screw_rpm", "elec", speed, np.where(doses, 0.8, 0), resolution=0.5, active=doses)
    add("melt_temp_c", "temp", lag(heat - 3 + 5 * doses + run * 3, steps(300)), 0.35, thick * -0.5, 0.1)
    for zone in range(3):
        turn = 2 * np.pi * plant.seconds / random.uniform(380, 700)
        control = 0.5 * np.sin(turn + random.uniform(0, 6)) + wander(random, rows, 20, 0.2)
        add(f"barrel_zone{zone + 1}_c", "temp", lag(heat - 8 * zone, steps(420)), 0.15, control, 0.1)
    warm = np.where(run, np.array([42.0, 55.0])[mould], 30.0) + 6 * (injects | holds) - 2 * opens
    add("mould_temp_c", "temp", lag(warm, steps(240)), 0.2, air * 0.1 - 2.3, 0.1)
    own, shuts = np.where(clamp > 0, 6.0, 0.8), clamp > 1400
    add("clamp_force_kn", "press", clamp, own, other * 3 * shuts, 1, active=shuts)
    add("pump_power_kw", "elec", power, 0.03 * power + 0.05, thick * 0.025 * power, 0.1)
    add("oil_temp_c", "temp", oil, 0.12, (air - 23) * 0.5, 0.1, mate=("pump_power_kw", 0.4))
    mate = ("mould_temp_c", 0.7)
    add("cooling_flow_l_min", "flow", cooling, 0.3, wander(random, rows, 90) * 0.25, 0.1, mate=mate)
    return with_faults(plant, mix, run, phase * 2 + mould)


def conveyor(seed: int, mix: float) -> Made:
    """A belt for bulk goods, steps of 10 s: stops for about three minutes, sometimes half an hour; its load changes. It can be overloaded."""
    plant = Plant(seed, 103, 9000, 5000, 10, start_hour=7)
    add, random, rows, steps = plant.add, plant.random, plant.rows, plant.steps

    def stop() -> tuple[int, int]:
        lasts = int(np.clip(random.lognormal(3.0, 0.7), 5, 180))
        return lasts, 8 + int(random.exponential(170))

    run = ~stretches(rows, int(random.exponential(120)), stop)
    levels = [0.35, 0.6, 0.8, 0.95]
    level, _ = pieces(
        rows, lambda _: (random.integers(200, 900), random.choice(levels) * random.uniform(0.95, 1.05))
    )
    load = lag(level, 25) * lag(run.astype(float), 3)
    swing = wander(random, rows, 15) * run
    speed = lag(run * 1.8, 1.5, 1.0)
    pace = speed / 1.8
    air = ambient(random, plant.seconds, 3, 18)
    since = age(run)
    starts = (since > 0) & (since <= 2)
    current = pace * (11 + 16 * load) + 14 * starts
    add("belt_speed_m_s", "elec", speed, np.where(run, 0.008, 0.0008), -0.006 * swing, 0.001)
    own, mate = np.where(run, 0.25, 0.02), ("motor_temp_c", 0.5)
    add("motor_current_a", "elec", current, own, 0.55 * swing, 0.1, mate=mate)
    add("motor_power_kw", "elec", current * 0.58 * 0.86, np.where(run, 0.12, 0.01), 0.27 * swing, 0.05)
    motor = lag(air + pace * (22 + 20 * load), steps(1300), steps(2400))
    add("motor_temp_c", "temp", motor, 0.2, lag(swing, 30) * 0.6, 0.1)
    gearbox, mate = lag(air + pace * (15 + 14 * load), steps(2200)), ("vib_gear_mm_s", 0.6)
    add("gearbox_temp_c", "temp", gearbox, 0.15, lag(swing, 40) * 0.4, 0.5, mate=mate)
    pulley = lag(air + pace * 11, steps(1500))
    add("pulley_brg_c", "temp", pulley, 0.15, 0, 0.1, mate=("vib_drive_mm_s", 0.7))
    own = np.where(run, 0.07, 0.005)
    add("vib_gear_mm_s", "vib", 0.03 + pace * (1.1 + 0.4 * load), own, 0.03 * swing, 0.01)
    add("vib_drive_mm_s", "vib", 0.03 + pace * (1.6 + 0.2 * load), np.where(run, 0.1, 0.005), 0, 0.01)
    add("belt_tension_kn", "press", 6 + 2.2 * speed / 1.8 + 4 * load, 0.08, 0.2 * swing, 0.02)
    add("mass_flow_t_h", "flow", 420 * load * speed / 1.8, np.where(run, 4.0, 0.3), 9 * swing, 1)
    weights = {"motor_current_a": 1.0, "motor_power_kw": 1.0, "belt_speed_m_s": -0.9, "motor_temp_c": 0.8}
    weights |= {"gearbox_temp_c": 0.7, "belt_tension_kn": 1.0, "vib_gear_mm_s": 0.6, "vib_drive_mm_s": 0.5}
    return with_faults(plant, mix, run, run, Common("overload", weights))


def packaging_line(seed: int, mix: float) -> Made:
    """A packaging line, steps of 30 s: five products with set points of their own, cleaning between them, short stops. Its air supply can fail."""
    plant = Plant(seed, 105, 9000, 5000, 30, start_hour=5)
    add, random, rows, steps = plant.add, plant.random, plant.rows, plant.steps
    order: list[int] = []

    def product_or_cleaning(number: int) -> tuple[float, float]:
        if number % 2:
            return random.integers(16, 60), 0
        if not order:
            order.extend(random.permutation(5) + 1)
        return random.integers(150, 460), order.pop()

    product = pieces(rows, product_or_cleaning)[0].astype(np.int64)

    def stop() -> tuple[int, int]:
        return int(random.integers(2, 9)), 5 + int(random.exponential(220))

    run = (product > 0) & ~stretches(rows, int(random.exponential(250)), stop)

    def points(low: float, high: float, off: float) -> Rows:
        """Set points between low and high that differ between any two products."""
        of = low + (high - low) * (random.permutation(5) + random.uniform(0.1, 0.9, 5)) / 5
        return np.concatenate([[off], of])[product]

    on = lag(run.astype(float), 0.7)
    speed = points(60, 140, 0) * on
    swing = wander(random, rows, 20) * run
    air = wander(random, rows, 70)
    hall = ambient(random, plant.seconds, 1.5, 22)
    add("line_speed_ppm", "elec", speed, np.where(run, 0.5, 0), 0.5 * swing, 0.5)
    add("air_supply_bar", "press", 6.4 - 0.25 * on, 0.03, 0.05 * air, 0.01, mate=("vacuum_mbar", 0.5))
    vacuum, own = np.where(run, -points(300, 720, 0), -20), np.where(run, 4.0, 1.0)
    mate = ("air_supply_bar", -0.5)
    add("vacuum_mbar", "press", vacuum, own, -5 * air * run, 1, signed=True, mate=mate)
    own = np.where(run, 0.025, 0.003)
    add("seal_pressure_bar", "press", points(2, 4.6, 0.0) * on, own, 0.03 * air * on, 0.01)
    add("jaw_temp_1_c", "temp", lag(points(128, 190, 95), steps(400)), 0.3, 0.35 * swing, 0.1)
    add("jaw_temp_2_c", "temp", lag(points(125, 185, 95), steps(430)), 0.3, 0.35 * swing, 0.1)
    add("film_tension_n", "elec", points(18, 60, 3) * (0.3 + 0.7 * on), 0.45, 0.4 * swing, 0.1)
    torque, own, mate = (20 + points(0, 45, 0)) * on, np.where(run, 0.6, 0.05), ("drive_current_a", 0.6)
    add("servo_torque_pct", "elec", torque, own, 0.9 * swing, 0.1, mate=mate)
    current = 0.8 + (3 + speed / 40 + points(0, 2, 0)) * on
    add("drive_current_a", "elec", current, np.where(run, 0.06, 0.01), 0.09 * swing, 0.01)
    add("glue_temp_c", "temp", lag(points(150, 182, 120), steps(900)), 0.25, 0, 0.1)
    add("glue_pressure_bar", "press", points(12, 42, 2) * (0.2 + 0.8 * on), 0.25, 0.2 * air, 0.1)
    weight = points(80, 900, 0) * run
    add("fill_weight_g", "qual", weight, np.where(run, 0.9, 0), 1.0 * swing, 0.1, active=run)
    shaking = 0.04 + on * (0.6 + speed / 100)
    add("vib_cutter_mm_s", "vib", shaking, np.where(run, 0.07, 0.005), 0.03 * swing, 0.01)
    bearing = lag(hall + on * (8 + speed / 9), steps(1100))
    add("cutter_brg_c", "temp", bearing, 0.15, 0, 0.1, mate=("vib_cutter_mm_s", 0.6))
    weights = {"air_supply_bar": -1.2, "vacuum_mbar": 1.0, "seal_pressure_bar": -1.1}
    weights |= {"glue_pressure_bar": -0.8, "line_speed_ppm": -0.6, "film_tension_n": -0.6}
    weights |= {"servo_torque_pct": 0.6}
    return with_faults(plant, mix, run, product * run, Common("air_supply_loss", weights))


def hydraulic_press(seed: int, mix: float) -> Made:
    """A hydraulic press, steps of 10 s: cycles of approach, rising force, hold, falling force and return, pauses, two tools in turn."""
    plant = Plant(seed, 108, 8000, 5000, 10, start_hour=6)
    add, random, rows, steps = plant.add, plant.random, plant.rows, plant.steps
    phase, tool, cycle = (np.zeros(rows, np.int64) for _ in range(3))
    done = np.zeros(rows)
    at = number = fitted = 0
    left = 60
    while at < rows:
        begin = at
        change = left == 0
        if change or random.random() < 0.03:
            at += int(random.integers(60, 150) if change else random.integers(10, 90))
            if change:
                fitted, left = 1 - fitted, int(random.integers(50, 110))
        lengths = [3, random.integers(7, 9), random.integers(8, 11) + 6 * fitted, 4, 3, random.integers(2, 5)]
        at = lay_phases(phase, done, at, lengths)
        tool[begin:at], cycle[begin:at] = fitted, number
        number, left = number + 1, left - 1
    run = phase > 0
    stiff = wander(random, number + 1, 6)[cycle] * run
    peak = np.array([210.0, 265.0])[tool]
    parts = [phase == each for each in range(1, 6)]
    _, rises, holds, falls, _ = parts
    presses = rises | holds | falls
    idle = np.where(run, 8.0, 4.0)
    pressure = np.select(parts, [22, 22 + (peak - 22) * done, peak, peak * (1 - 0.93 * done), 30], idle)
    strokes = [620 - 540 * done, 80 - 60 * done, 20, 20 + 8 * done, 28 + 590 * done]
    position = np.select(parts, strokes, 620.0)
    flow = np.select(parts, [165, 60, 9, 4, 140], np.where(run, 2.0, 0))
    current = np.select(parts, [48, 35 + 60 * done, 44, 28, 52], np.where(run, 22.0, 21.0))
    cushion = np.select([rises, holds], [60 + 35 * done, np.array([95.0, 120.0])[tool]], 58.0)
    air = ambient(random, plant.seconds, 1.5, 22)
    oil = lag(air + 6 + lag(current, 60) * 0.48, steps(2700))
    pump = ("pump_current_a", 0.5)
    add("ram_pos_mm", "level", position, 0.3, stiff * 0.4 * holds, 0.1)
    shared = stiff * 0.012 * pressure * run
    add("main_press_bar", "press", pressure, 0.5 + 0.004 * pressure, shared, 0.5, mate=pump)
    own, shared = np.where(run, 6.0, 0.8), stiff * 0.075 * pressure * presses
    add("ram_force_kn", "press", pressure * 6.28 * presses, own, shared, 1, active=presses)
    add("pilot_press_bar", "press", np.where(run, 42.0, 38.0), 0.35, wander(random, rows, 50) * 0.3, 0.1)
    mate = ("main_press_bar", -0.5)
    add("pump_flow_l_min", "flow", flow, 0.012 * flow + 0.15, stiff * 0.008 * flow, 0.5, mate=mate)
    add("pump_current_a", "elec", current, 0.35 + 0.004 * current, stiff * 0.012 * current * run, 0.1)
    add("cushion_press_bar", "press", cushion, 0.5, stiff * 0.6 * holds, 0.5)
    mate = ("pump_current_a", 0.4)
    add("oil_temp_c", "temp", oil, 0.12, wander(random, rows, 200) * 0.3, 0.1, mate=mate)
    add("tank_level_mm", "level", 540 + 6 * (oil - 40) / 10 - 12 * presses, 0.5, 0, 1)
    add("cooler_out_c", "temp", lag(18 + 0.3 * (oil - 18), 30), 0.2, (air - 22) * 0.4, 0.1)
    add("pump_vib_mm_s", "vib", 1.0 + current / 60, 0.08, 0.04 * stiff, 0.01)
    bearing = lag(air + 9 + lag(current, 30) * 0.35, steps(1500))
    add("pump_brg_c", "temp", bearing, 0.15, 0, 0.1, mate=("pump_vib_mm_s", 0.6))
    return with_faults(plant, mix, run, phase * 2 + tool)


def cnc_standby_zero(seed: int, mix: float) -> Made:
    """A milling centre, steps of 20 s: in standby for one to a hundred minutes, when most of its channels tell exactly zero."""
    plant = Plant(seed, 110, 9000, 5000, 20, start_hour=6)
    add, random, rows, steps = plant.add, plant.random, plant.rows, plant.steps

    def work_or_standby(number: int) -> tuple[float, float]:
        if number % 2 == 0:
            return random.integers(40, 260), 1
        return np.clip(random.lognormal(3.2, 0.8), 6, 300), 0

    work, piece = pieces(rows, work_or_standby)
    run = work > 0
    count = piece.max() + 1
    speed = random.choice([6000, 8000, 12000.0], count)[piece]
    depth = random.choice([0.6, 0.8, 1.0], count)[piece] * random.uniform(0.97, 1.03, count)[piece]
    operation, _ = pieces(rows, lambda _: (random.integers(5, 25), random.choice([1.0, 0.7, 0.45])))
    load = depth * operation * run
    swing = wander(random, rows, 7) * run
    air = ambient(random, plant.seconds, 1.5, 22)
    add("spindle_rpm", "set", speed, 4.0, 0, 1, sleeps=True)
    add("spindle_current_a", "elec", 4 + 17 * load, 0.22, 0.5 * swing, 0.01, sleeps=True)
    power = np.where(run, 3.4 + 6.2 * load + speed / 9000, 0.85)
    add("active_power_kw", "elec", power, np.where(run, 0.07, 0.01), 0.18 * swing, 0.01)
    add("feed_load_pct", "elec", 18 + 30 * load, 0.7, 0.9 * swing, 0.1, sleeps=True)
    shared, mate = wander(random, rows, 60) * 0.25, ("coolant_press_bar", -0.7)
    add("coolant_flow_l_min", "flow", 21.0, 0.3, shared, 0.1, sleeps=True, mate=mate)
    shared, mate = wander(random, rows, 60) * 0.05, ("coolant_flow_l_min", 0.6)
    add("coolant_press_bar", "press", 12.5, 0.12, shared, 0.1, sleeps=True, mate=mate)
    along, across = 0.5 + speed / 12000 * 0.6 + 0.7 * load, 0.4 + speed / 12000 * 0.7 + 0.5 * load
    add("vib_x_mm_s", "vib", along, 0.06, 0.05 * swing, 0.01, sleeps=True)
    add("vib_y_mm_s", "vib", across, 0.06, 0.04 * swing, 0.01, sleeps=True)
    bearing = lag(air + run * (6 + speed / 12000 * 19), steps(900), steps(1800))
    add("spindle_brg_c", "temp", bearing, 0.15, lag(swing, 12) * 0.2, 0.1, mate=("vib_x_mm_s", 0.6))
    motor = lag(air + 2 + run * (8 + 22 * lag(load, 20)), steps(1300), steps(2200))
    mate = ("spindle_current_a", 0.4)
    add("motor_temp_c", "temp", motor, 0.2, lag(swing, 20) * 0.4, 0.5, mate=mate)
    add("air_press_bar", "press", 6.1, 0.02, wander(random, rows, 40) * 0.05, 0.01)
    add("lube_press_bar", "press", 3.2, 0.05, 0, 0.05, sleeps=True)
    return with_faults(plant, mix, run, run)
