"""What a failure of the file system means to whoever typed the command, whichever library met it."""

from __future__ import annotations

import errno
import os
import resource

_ROOM = "free space and run the command again, which goes on from what is finished"
_RIGHTS = "correct its rights, or name a folder that can be written"
_ADVICE = {
    errno.ENOSPC: _ROOM,
    errno.EDQUOT: _ROOM,
    errno.EFBIG: "raise the limit on the size of files (`ulimit -f`), or " + _ROOM,
    errno.EROFS: _RIGHTS,
    errno.EACCES: _RIGHTS,
    errno.EPERM: _RIGHTS,
    errno.EIO: "the disk is damaged or was taken away: look into the system's log",
    errno.ESTALE: "the disk was taken away: look into the system's log",
}
_OPEN_FILES = (errno.EMFILE, errno.ENFILE)


def storage_line(error: Exception) -> str | None:
    """One line that says what to do about a failure of the file system, None if it is another one.

    TensorFlow raises errors of its own that hold the system's words and the path, and no number.
    """
    if isinstance(error, OSError):
        number, what = error.errno, f"{error.filename or 'file system'}: {error.strerror or error}"
    else:
        words = str(error).split("\n")[0]
        number = next((n for n in (*_ADVICE, *_OPEN_FILES) if os.strerror(n) in words), None)
        if number is None or not hasattr(error, "error_code"):
            return None
        what = words[:400]
    if number in _OPEN_FILES:
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        return f"{os.strerror(number)}; this process may open {most} at once: raise the limit (`ulimit -n`) and run the command again"
    advice = _ADVICE.get(number or 0)
    return f"{what}; {advice}" if advice else what
