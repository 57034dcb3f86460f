"""Two held-out machines that follow wind or cold and do not switch: a wind turbine and a heat substation."""

from __future__ import annotations

import numpy as np

from benchmarks.held_out_faults import Harm, Machine
from benchmarks.held_out_signals import bump, fresh, heavy, weekday, worn
from benchmarks.switching_plant import Plant
from benchmarks.switching_signals import DAY, HOUR, Mask, ambient, lag, wander


def _wind_turbine(plant: Plant, harm: Harm) -> Mask:
    """A wind turbine of 3 MW, means of ten minutes: it follows the wind, and is curtailed at times."""
    add, random, rows, steps = plant.add, plant.random, plant.rows, plant.steps
    slow, fast = wander(random, rows, steps(30 * HOUR)), wander(random, rows, 6)
    wind = 7.2 * np.exp(0.42 * slow + 0.1 * fast + 0.03 * random.standard_normal(rows))
    season = 6 * plant.seconds / plant.seconds[-1]
    air = ambient(random, plant.seconds, 3.5, 6) + season + 2.5 * wander(random, rows, steps(4 * DAY))
    dense = 1 - 0.0035 * (air - 10)
    curtailed = np.where(fresh(plant, (0.06, 0.15)), 0.8, 1.0)
    gear, cooler, yaw = harm("gear_bearing_worn"), harm("oil_cooler_blocked"), harm("yaw_misaligned")
    blade, fan, hydraulics = (
        harm("blade_pitch_offset"),
        harm("generator_fan_fails"),
        harm("pitch_hydraulic_leak"),
    )
    caught = (1 - 0.16 * yaw) * (1 - 0.08 * blade)
    raw_power = 3000 / (1 + np.exp(-(wind - 9.0) * 0.78)) - 3000 / (1 + np.exp((9.0 - 3.2) * 0.78))
    turns = wind > 3.2
    power = np.minimum(np.maximum(raw_power, 0) * dense * caught, 3000 * curtailed) * turns
    share = power / 3000
    rotor = np.where(turns, np.clip(6.6 + 1.05 * (wind - 3.2) * caught, 6.6, 14.2), 0.9)
    pitch = np.where(turns, np.maximum(0.0, (wind - 10.6) * 2.7) + 5.0 * (1 - curtailed) * (wind > 9), 78.0)
    gust = wander(random, rows, 2)
    scatter = heavy(random, rows, 1.0, 4)
    nacelle = lag(air + 5 + 9 * share, steps(1.5 * HOUR))
    add("wind_m_s", "flow", wind, 0.16, 0.12 * gust, 0.1)
    add("wind_2_m_s", "flow", wind * 0.98 + 0.1, 0.18, 0.12 * gust, 0.1)
    add("turbulence_pct", "qual", 9 + 12 / (1 + 0.2 * wind), 0.7, 0.8 * np.abs(gust), 0.1)
    add("yaw_error_deg", "set", 6.0 * yaw, 1.3, 0.7 * gust, 0.1, signed=True)
    spread = 12 + 60 * share * (1 - share)
    add(
        "active_power_kw",
        "elec",
        power,
        np.where(turns, spread * 0.6, 0.8),
        turns * spread * (0.6 * gust + 0.4 * scatter),
        1,
    )
    add("reactive_power_kvar", "elec", 40 + 0.04 * power, 6.0, 9.0 * wander(random, rows, 30), 1)
    add("rotor_rpm", "elec", rotor, np.where(turns, 0.06, 0.05), 0.08 * gust * turns, 0.01)
    add("generator_rpm", "elec", rotor * 112.0, np.where(turns, 3.0, 3.0), 9.0 * gust * turns, 1)
    for number in range(3):
        off = 1.9 * blade * (number == 1) * turns
        add(f"pitch_{number + 1}_deg", "set", pitch + off, 0.08, 0.15 * gust * (pitch > 0.5), 0.02)
    add("pitch_oil_bar", "press", 212 - 2.5 * share - 26 * hydraulics, 1.0, 0.7 * scatter, 0.5)
    add("pitch_pump_min_h", "elec", 3.2 + 2.2 * (wind > 10.6) + 9 * hydraulics, 0.35, 0.0, 0.1)
    oil = lag(nacelle + 14 + 26 * share**0.8 + 16 * cooler * share, steps(1.2 * HOUR))
    rub = gear * share
    add("gear_oil_c", "temp", oil, 0.35, 0.3 * lag(gust, 3), 0.1)
    add("gear_oil_bar", "press", 3.4 - 0.018 * (oil - 40) + 0.25 * turns, 0.025, 0.0, 0.01)
    add("gear_filter_bar", "press", 0.7 + 0.5 * worn(plant, 7000) - 0.006 * (oil - 45), 0.02, 0.0, 0.01)
    add("gear_brg_hss_c", "temp", oil + 2 + lag(9 * share + 17 * rub, 2), 0.35, 0.25 * gust * turns, 0.1)
    add("gear_brg_ims_c", "temp", oil + 1 + lag(6 * share + 5 * rub, 2), 0.35, 0.2 * gust * turns, 0.1)
    add(
        "gear_vib_mm_s",
        "vib",
        0.1 + turns * (0.6 + 1.3 * share + 1.4 * rub),
        0.03 + 0.07 * turns,
        0.06 * scatter * turns,
        0.01,
    )
    add("main_brg_c", "temp", lag(nacelle + 6 + 0.7 * rotor, steps(4 * HOUR)), 0.2, 0.0, 0.1)
    winding = lag(nacelle + 20 + 52 * share**1.4 * (1 + 0.45 * fan), steps(0.8 * HOUR))
    add("generator_winding_c", "temp", winding, 0.8, 0.5 * lag(gust, 2), 1.0)
    add(
        "generator_brg_de_c",
        "temp",
        lag(nacelle + 12 + 16 * share + 12 * fan * share, steps(HOUR)),
        0.35,
        0.0,
        0.1,
    )
    add(
        "generator_brg_nde_c",
        "temp",
        lag(nacelle + 10 + 14 * share + 9 * fan * share, steps(HOUR)),
        0.35,
        0.0,
        0.1,
    )
    add("tower_acc_mm_s2", "vib", 6 + 3.2 * wind + 15 * blade * turns, 2.2, 2.5 * np.abs(scatter), 0.5)
    add("nacelle_c", "temp", nacelle, 0.25, 0.0, 0.1)
    add("outside_c", "temp", air, 0.2, 0.0, 0.1)
    add("converter_water_c", "temp", lag(nacelle + 12 + 11 * share, 2), 0.3, 0.0, 0.5)
    return turns


def _heat_substation(plant: Plant, harm: Harm) -> Mask:
    """A district-heating substation of a block of flats, steps of 15 minutes, from autumn to spring: heating by weather, hot water by the day."""
    add, random, rows, steps = plant.add, plant.random, plant.rows, plant.steps
    winter = 9 - 8.5 * np.sin(np.pi * plant.seconds / plant.seconds[-1])
    outside = winter + ambient(random, plant.seconds, 2.4, 0) + 2.8 * wander(random, rows, steps(3 * DAY))
    workday = weekday(plant)
    morning = bump(plant, 6.8, 0.9) * workday + bump(plant, 9.2, 1.6) * (1 - workday)
    use = 0.08 + 0.9 * morning + 0.75 * bump(plant, 19.5, 1.8) + 0.2 * bump(plant, 13, 1.5)
    holiday = np.where(fresh(plant, (0.08, 0.16)), 0.75, 1.0)
    taps = use * holiday * np.exp(0.2 * wander(random, rows, 3) + 0.12 * heavy(random, rows, 0.5, 4))
    fouled, valve, pump = (
        harm("exchanger_fouled"),
        harm("control_valve_passes"),
        harm("circulation_pump_weak"),
    )
    leak, mixed, strainer = (
        harm("secondary_leak"),
        harm("hot_water_exchanger_scaled"),
        harm("strainer_blocked"),
    )
    night = 1 - 0.10 * bump(plant, 2.0, 2.2)
    mild = np.clip(lag(outside, steps(6 * HOUR)), -20, 16)
    wanted = (68 - 1.35 * (mild + 5)) * night
    load = np.clip(17.5 - mild, 0.6, None) * 9.5 * night
    tap_heat = 120 * taps
    network = np.clip(92 - 1.0 * (lag(outside, steps(12 * HOUR)) + 2), 74, 108) + 1.2 * wander(
        random, rows, 20
    )
    age_of_plates = 0.25 * worn(plant, 14000)
    returned = wanted - load / 9.2 * (1 - 0.2 * pump) - 3
    supply = wanted + 6 * valve - 2.5 * fouled
    primary_back = returned + 3 + 2.0 * age_of_plates + 9 * fouled + 7 * valve - 4 * taps + 5 * mixed * taps
    litres = (load + tap_heat) * (1 + 0.08 * valve) / (network - primary_back) * 0.86
    jitter = wander(random, rows, 2)
    add("outside_c", "temp", outside, 0.15, 0.0, 0.1)
    add("primary_in_c", "temp", network, 0.25, 0.0, 0.1)
    add("primary_out_c", "temp", primary_back, 0.3, 0.5 * jitter, 0.1)
    add("primary_flow_m3_h", "flow", litres * (1 - 0.1 * strainer), 0.05, 0.08 * jitter, 0.01)
    add("heat_kw", "flow", load + tap_heat, 2.0, 4.0 * jitter, 1)
    head = 1.9 + 0.1 * wander(random, rows, 12) - 0.02 * litres
    add("primary_dp_bar", "press", head, 0.02, 0.0, 0.01)
    add("strainer_dp_bar", "press", 0.004 * litres**2 * (1 + 1.2 * strainer) + 0.02, 0.006, 0.0, 0.005)
    opening = np.clip(12 + load * 0.26 + 12 * fouled + 7 * strainer, 0, 100)
    add("heating_valve_pct", "set", opening, 0.9, 1.2 * jitter, 1)
    add("heating_supply_c", "temp", supply, 0.3, 0.4 * jitter, 0.1)
    add("heating_return_c", "temp", lag(returned, 3), 0.25, 0.2 * jitter, 0.1)
    add(
        "secondary_press_bar",
        "press",
        2.15 + 0.006 * wanted - 0.4 * leak,
        0.02,
        0.03 * wander(random, rows, 90),
        0.01,
    )
    add("make_up_l", "flow", 0.6 + 9 * leak, 0.3, np.abs(heavy(random, rows, 0.3)), 0.1)
    add("pump_dp_bar", "press", 0.42 * (1 - 0.4 * pump) + 0.0004 * load, 0.008, 0.006 * jitter, 0.001)
    add("pump_w", "elec", 310 + 0.7 * load - 70 * pump, 4.0, 3.0 * jitter, 1)
    hot = 57.5 - 2.6 * taps - 6 * mixed * (0.3 + taps)
    add("hot_water_c", "temp", hot, 0.4, -0.5 * jitter, 0.1)
    add("hot_water_flow_m3_h", "flow", 2.1 * taps, 0.04, 0.0, 0.01)
    add("hot_water_loop_c", "temp", lag(hot, 3) - 4.2, 0.2, 0.0, 0.1)
    return np.ones(rows, np.bool_)


WEATHER = {
    "wind_turbine": Machine(
        307, 8000, 4000, 600, 0, _wind_turbine,
        ("gear_bearing_worn", "oil_cooler_blocked", "yaw_misaligned", "blade_pitch_offset", "generator_fan_fails", "pitch_hydraulic_leak"),
    ),
    "heat_substation": Machine(
        308, 12000, 5000, 900, 0, _heat_substation,
        ("exchanger_fouled", "control_valve_passes", "circulation_pump_weak", "secondary_leak", "hot_water_exchanger_scaled", "strainer_blocked"),
    ),
}  # fmt: skip
"""Plants by name."""
