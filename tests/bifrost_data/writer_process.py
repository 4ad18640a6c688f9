"""A process that creates notes until it has made enough, or is killed: ``python writer_process.py URL NAME NUMBER``.

It prints a line for each write that was confirmed.
"""

from __future__ import annotations

import asyncio
import sys

from data_services import serving
from zcli_bifrost.data.actor import Actor


async def main(url: str, name: str, number: int) -> None:
    actor = Actor(name, "user")
    async with serving(url) as service:
        for step in range(number):
            rows = [{"text": f"{name}-{step}-{part}"} for part in range(1 + step % 3)]
            written = await service.create(actor, "notes", rows)
            print(written.version, written.count, flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
