"""Named places where a test may kill this very process, so that a crash can be put at any step of publishing.

The environment variable `FEDPLANT_CRASH_AT` holds `step` or `step:n`; the n-th pass (from 1) of that step sends SIGKILL
to the process. Without the variable a pass costs one comparison.
"""

import os
import signal

_STEP, _, _PASS = os.environ.get("FEDPLANT_CRASH_AT", "").partition(":")
_left = int(_PASS or 1)

STEPS = (
    "temp_written",
    "temp_synced",
    "linked",
    "folder_synced",
    "temp_removed",
    "before_commit",
    "after_commit",
    "letters_sent",
    "letters_confirmed",
)

COMPACTION_STEPS = (
    "compact_written",
    "compact_linked",
    "compact_marked",
    "compact_removing",
    "compact_removed",
)


def reached(step: str) -> None:
    """Die here by SIGKILL if the environment asks for it."""
    global _left
    if step == _STEP:
        _left -= 1
        if _left <= 0:
            os.kill(os.getpid(), signal.SIGKILL)
