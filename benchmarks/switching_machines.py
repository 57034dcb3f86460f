"""Fourteen machines of factories that switch between states, made from a seed by somebody who did not know the detector.

Each maker takes a seed and how much of a state's whole spread counts for the size of faults (`benchmarks/switching_faults.py`). The
names of sensors end in their units; what lasts is given in steps.
"""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.switching_faults import Made
from benchmarks.switching_process import (
    batch_reactor,
    boiler_rare_load,
    compressor,
    continuous_control,
    oven,
    pump_station,
    staged_chiller,
    weekend_extruder,
)
from benchmarks.switching_workshop import (
    cnc_standby_zero,
    conveyor,
    hydraulic_press,
    injection_moulding,
    machine_tool,
    packaging_line,
)

Maker = Callable[[int, float], Made]

MACHINES: dict[str, Maker] = {
    make.__name__: make
    for make in (
        machine_tool,
        injection_moulding,
        conveyor,
        compressor,
        packaging_line,
        oven,
        pump_station,
        hydraulic_press,
        weekend_extruder,
        cnc_standby_zero,
        boiler_rare_load,
        continuous_control,
        batch_reactor,
        staged_chiller,
    )
}
