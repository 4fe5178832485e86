"""The signals that end a server, and the exit status that follows."""

from __future__ import annotations

import signal
import sys

import anyio

# A server that was asked to end and did has not failed; an interrupt is reported as shells expect it.
EXIT_STATUS = {signal.SIGTERM: 0, signal.SIGINT: 130}


async def ending_signal() -> int:
    """Wait for SIGTERM or SIGINT and give the exit status that it asks for.

    Afterwards both have their ordinary meaning again, so that a second one ends a server that does not come to an end.
    """
    if sys.platform == "win32":
        # There the event loop cannot handle them; an interrupt arrives as KeyboardInterrupt.
        await anyio.sleep_forever()
    with anyio.open_signal_receiver(*EXIT_STATUS) as signals:
        received = await anext(signals)
    return EXIT_STATUS[received]
