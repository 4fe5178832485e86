"""The signals that end a server, and the exit status that follows."""

from __future__ import annotations

import signal
import sys

import anyio

# A server that ends because it was told to has not failed. An interrupt is reported as shells expect it.
EXIT_STATUS = {signal.SIGTERM: 0, signal.SIGINT: 130}


async def ending_signal() -> int:
    """Wait for SIGTERM or SIGINT and return the exit status that it asks for.

    Afterwards both have their default effect again, so that a second signal ends a server that hangs.
    """
    if sys.platform == "win32":
        # Event loops cannot handle signals there; an interrupt arrives as KeyboardInterrupt.
        await anyio.sleep_forever()
    with anyio.open_signal_receiver(*EXIT_STATUS) as signals:
        received = await anext(signals)
    return EXIT_STATUS[received]
