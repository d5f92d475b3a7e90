"""Rockets: takes telemetry of rockets over HTTP, makes it durable, and serves their state.

- `domain`: what is true; messages, rockets and ledgers, without I/O.
- `journal`: what survives; records and notes in SQLite or in memory.
- `actors`: who is responsible; the fleet, one actor per rocket, and what readers see.
- `web`: how the world speaks to it; the front, the routes and every error answer.
- `lending`: gives one request to Hypercorn and the application behind it.
- `server`: one process, from start to stop.
- `settings`: every setting; `telemetry`: logs.
- `simulator`: the messages of an imagined fleet.
- `bench`: what it does per second, beside references on the same machine.
- `cli`: the commands; the only place that prints.
"""

__version__ = "0.1.0"
