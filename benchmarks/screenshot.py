"""Picture of an HTML page as a browser shows it, with headless Chromium (Debian package `chromium`).

python benchmarks/screenshot.py report.html picture.png --width 1200 --height 2400 [--dark] [--pdf]
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--virtual-time-budget=4000",
)


def main() -> int:
    """Write the picture; 1 if there is no Chromium or it wrote nothing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("page", type=Path, help="HTML file, may end in #anchor")
    parser.add_argument("picture", type=Path)
    parser.add_argument("--width", type=int, default=1200)
    parser.add_argument("--height", type=int, default=1600)
    parser.add_argument("--dark", action="store_true", help="as a viewer who prefers dark pages")
    parser.add_argument("--pdf", action="store_true", help="print to PDF instead")
    options = parser.parse_args()
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        print("no Chromium found; on Debian: apt-get install chromium", file=sys.stderr)
        return 1
    name, _, anchor = str(options.page).partition("#")
    address = Path(name).resolve().as_uri() + (f"#{anchor}" if anchor else "")
    target = options.picture.resolve()
    flags = [*_FLAGS, f"--window-size={options.width},{options.height}"]
    flags += (
        ["--blink-settings=preferredColorScheme=0"]
        if options.dark
        else ["--blink-settings=preferredColorScheme=1"]
    )
    flags += (
        [f"--print-to-pdf={target}", "--no-pdf-header-footer"] if options.pdf else [f"--screenshot={target}"]
    )
    with tempfile.TemporaryDirectory() as profile:
        command = [browser, *flags, f"--user-data-dir={profile}", address]
        subprocess.run(
            command, check=False, timeout=120, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
    return 0 if target.exists() else 1


if __name__ == "__main__":
    sys.exit(main())
