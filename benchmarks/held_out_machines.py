"""Ten made machines, held out: written by somebody who did not know the detector, whose rules were chosen with fourteen others in sight.

Six switch between states (a welding cell, die casting, a paper winder, a pasteuriser, a harbour crane, a sugar centrifuge), four follow
weather, season and demand (a wind turbine, a heat substation, water works, a data hall).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from benchmarks.held_out_faults import made
from benchmarks.held_out_process import PROCESS
from benchmarks.held_out_steady import STEADY
from benchmarks.held_out_weather import WEATHER
from benchmarks.held_out_workshop import WORKSHOP
from benchmarks.switching_faults import Made

MACHINES: dict[str, Callable[[int], Made]] = {
    name: partial(made, machine) for name, machine in (WORKSHOP | PROCESS | WEATHER | STEADY).items()
}
"""Makers of a recording from a seed, by the machine's name."""
