"""Show what zCLI does on this machine, with the output of every step.

    python Demos/tour.py            # with the public httpbin, or a local one if that does not respond quickly
    python Demos/tour.py --local    # sends nothing to other machines

HTTPBIN_URL, in the environment or in a .zEnv file, names the httpbin to use instead.
The exit status is 0 if every step passed, and 1 if not. The tour works in a temporary folder and removes it.
"""

from __future__ import annotations

import argparse
import platform
import signal
import sys
import time
from types import FrameType
from typing import NoReturn

try:
    import zCLI as _installed  # noqa: F401
except ModuleNotFoundError as missing:
    sys.exit(f"zCLI is not installed here ({missing}). In the repository: pip install -e '.[tour]'")

from tour_steps.bifrost import show_bifrost
from tour_steps.closing import show_close
from tour_steps.demos import show_demos
from tour_steps.layers import show_layers, show_wrong_values
from tour_steps.plugins import show_plugins
from tour_steps.ports import show_ports
from tour_steps.rooms import show_rooms
from tour_steps.services import show_lifecycle, show_services, show_starting_demo
from tour_steps.swapping import show_deployments, show_engines
from tour_steps.walk import Step, Tour, walk
from tour_steps.web import show_errors, show_methods
from tour_steps.websocket import show_websocket

from zcli_core import __version__

STEPS = (
    Step("Plugins: every part that talks to the outside world", show_plugins),
    Step("Settings: five layers, and the origin of each value", show_layers),
    Step("Settings: invalid values", show_wrong_values),
    Step("Ports: free, in use, listening", show_ports),
    Step("HTTP and HTTPS: a request of each method", show_methods),
    Step("HTTP and HTTPS: errors", show_errors),
    Step("WebSocket: echo, tokens, wss, broadcast, a clean stop", show_websocket),
    Step("A setting replaces a part: HTTP over libcurl", show_engines),
    Step("The deployment replaces parts: HTTP over libcurl, JSON Web Tokens", show_deployments),
    Step("Services: each detected by its own protocol", show_services),
    Step("Services: one started, used, restarted and stopped", show_lifecycle),
    Step("Services: the guide's demo that starts PostgreSQL", show_starting_demo),
    Step("Rooms: a chat over two processes that share a Redis", show_rooms),
    Step("zBifrost: a task board that is live in two clients", show_bifrost),
    Step("The demos, as a user runs them", show_demos),
    Step("Closing", show_close),  # the last
)


def main() -> int:
    parser = argparse.ArgumentParser(description="Show what zCLI does on this machine.")
    parser.add_argument("--local", action="store_true", help="send nothing to other machines")
    given = parser.parse_args()
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]  # a terminal without ✓ shows a question mark
    signal.signal(signal.SIGTERM, _terminated)
    signal.signal(signal.SIGINT, _interrupted)
    began = time.monotonic()
    tour = Tour(local=given.local)
    tour.console.print(f"[bold]zCLI {__version__}[/], Python {platform.python_version()}, {platform.system()}")
    try:
        failed = walk(tour, STEPS)
    except KeyboardInterrupt:
        tour.resources.close()
        tour.console.print("\nInterrupted. Everything that the tour started has ended.")
        return 130
    finally:
        tour.resources.close()
    seconds = time.monotonic() - began
    if failed:
        tour.console.print(f"\n[bold red]{len(failed)} of {len(STEPS)} steps failed:[/]")
        for step in failed:
            tour.print(step.title, "red")
        return 1
    tour.console.print(f"\n[bold green]All {len(STEPS)} steps passed[/], in {seconds:.1f} s.")
    return 0


def _interrupted(signum: int, frame: FrameType | None) -> NoReturn:
    """End the tour at the first Ctrl+C, and ignore further ones while it stops what it started."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise KeyboardInterrupt


def _terminated(signum: int, frame: FrameType | None) -> NoReturn:
    """End the tour through every ``finally``."""
    sys.exit(128 + signum)


if __name__ == "__main__":
    sys.exit(main())
