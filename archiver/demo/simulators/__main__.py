"""Run the simulators until interrupted: `python -m archiver.demo.simulators [--port 8700] [--count 25] [--apart]`.

The first line of output is JSON: where each simulator listens, what it accepts, and the control port.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
from contextlib import AsyncExitStack
from pathlib import Path

from aiohttp import web

from archiver.clock import SystemClock
from archiver.demo.simulators.control import Control
from archiver.demo.simulators.fleet import CREDENTIALS, fleet
from archiver.demo.simulators.scenario import MovableClock, samples


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m archiver.demo.simulators", description=__doc__.partition("\n")[0])
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8700, help="control port, the simulators follow; 0: any free ones")
    parser.add_argument("--count", type=int, default=25, help="calls at each provider (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="another seed, other calls")
    parser.add_argument("--audio", type=Path, help="folder of .mp3 and .wav files to serve")
    parser.add_argument("--apart", action="store_true", help="serve media from ports of their own")
    return parser.parse_args()


async def serve(asked: argparse.Namespace) -> None:
    system = SystemClock()
    clock = MovableClock(system.now(), running=system)
    folder: Path | None = asked.audio
    audio = samples(folder) if folder else samples()
    simulators = fleet(clock, audio, seed=asked.seed, count=asked.count, host=asked.host, apart=asked.apart)
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with AsyncExitStack() as running:
        for index, each in enumerate(simulators.values(), start=1):
            await each.start(asked.port and asked.port + index)
            running.push_async_callback(each.stop)
        control = Control(simulators, clock, audio, CREDENTIALS)
        runner = web.AppRunner(control.application(), access_log=None, shutdown_timeout=0.2)
        await runner.setup()
        running.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, asked.host, asked.port).start()
        url = f"http://{asked.host}:{runner.addresses[0][1]}"
        sys.stdout.write(json.dumps({"control": url, "simulators": control.overview()}) + "\n")
        sys.stdout.flush()
        await stop.wait()


if __name__ == "__main__":
    asyncio.run(serve(arguments()))
