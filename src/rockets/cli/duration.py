"""Durations on the command line, written as Go writes them."""

import re

import click

_UNITS_S = {
    "ns": 1e-9,
    "us": 1e-6,
    "µs": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "m": 60.0,
    "h": 3600.0,
}
_PART = re.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+)(ns|us|µs|ms|s|m|h)")


class Duration(click.ParamType[float]):
    """A duration as Go writes it, such as 500ms, 1.5s or 1m30s, in seconds."""

    name = "duration"

    def convert(
        self, value: str | float, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the seconds, or fail with the forms that are understood."""
        if isinstance(value, float):
            return value
        parts = _PART.findall(str(value))
        if value == "0":
            return 0.0
        if not parts or "".join(number + unit for number, unit in parts) != value:
            self.fail(f"{value!r} is not a duration such as 500ms, 1.5s or 1m30s", param, ctx)
        return sum(float(number) * _UNITS_S[unit] for number, unit in parts)
