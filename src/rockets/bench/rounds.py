"""Runs the rounds: in each one everything once, so that ours and the references alternate."""

from collections.abc import Callable, Mapping, Sequence

from rockets.bench.measurements import Measure
from rockets.bench.outcome import Failed, MeasurementFailed, Outcome
from rockets.bench.stand import Stand

Rounds = dict[str, list[Outcome | Failed]]
"""What each measurement found, round by round."""


def run_rounds(
    measurements: Mapping[str, Measure],
    stand: Stand,
    *,
    rounds: int,
    say: Callable[[str], None],
) -> Rounds:
    """Run everything so many times in the order given; `say` gets one line for each.

    A measurement that fails is noted as that, and the others go on.
    """
    results: Rounds = {name: [] for name in measurements}
    for number in range(1, rounds + 1):
        found: dict[str, Outcome] = {}
        for name, measure in measurements.items():
            result = _attempt(measure, stand, found)
            results[name].append(result)
            if isinstance(result, Outcome):
                found[name] = result
            say(f"round {number} of {rounds}: {name}: {_words(result)}")
    return results


def _attempt(measure: Measure, stand: Stand, found: Mapping[str, Outcome]) -> Outcome | Failed:
    try:
        return measure(stand, found)
    except MeasurementFailed as error:
        return Failed(str(error))


def failures(results: Sequence[Outcome | Failed]) -> list[str]:
    """Return why rounds have no figure, each reason once."""
    texts = [result.failure for result in results if isinstance(result, Failed)]
    return list(dict.fromkeys(texts))


def _words(result: Outcome | Failed) -> str:
    if isinstance(result, Failed):
        return f"failed: {result.failure}"
    p99 = "" if result.p99_ms is None else f", p99 {result.p99_ms:.2f} ms"
    return f"{result.rate:,.0f}/s{p99}"
