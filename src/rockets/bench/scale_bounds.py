"""The cases at scale that have bounds of their own: memory, starts, lists, messages in reverse."""

from contextlib import closing
from itertools import pairwise
from time import perf_counter, sleep

import msgspec

from rockets.bench.outcome import MeasurementFailed, percentile
from rockets.bench.scale_found import Found
from rockets.bench.scale_march import in_batches, in_reverse
from rockets.bench.scale_sender import DUPLICATE, STORED, Fates, send_batches, send_singles
from rockets.bench.scale_shelf import Shelf, check_state, check_states, weigh_warm
from rockets.bench.scale_stand import Grounds, Reader, Server
from rockets.bench.wrk import TIMEOUT_S

MIB = 1024 * 1024
START_CLEAN_MAX_S = 10.0
START_KILLED_MAX_S = 15.0

# Sent before the kill, so that it comes shortly before a checkpoint is due.
TAIL = 200_000
TAIL_MIN = 2_000
KILL_CONNECTIONS = 64
# More than are sent in any time.
MESSAGES_MAX = 10**9

REVERSED = 1_000_000
REVERSED_MIN = 2_000

LIST = "/rockets?sort=-speed&limit=100"
LIST_MAX = 100
QUERY_EVERY_S = 0.2


def memory(grounds: Grounds, shelf: Shelf) -> dict[str, Found]:
    """What a rocket takes that nothing happens to, after a load and after a restart."""
    with shelf.using(shelf.many) as stored, grounds.server(stored.database) as server:
        restarted = weigh_warm(server)
        weights = stored.note.weights
        check_states(server, stored.march)
    assert weights is not None, "this fleet is weighed when it is loaded"
    rockets = stored.march.rockets
    loaded, idle, again = (
        (resident - weights.empty) / rockets
        for resident in (weights.loaded, weights.idle, restarted)
    )
    note = (
        f"right after loading {loaded:,.0f} B, when all actors had gone {idle:,.0f} B, after a "
        f"restart {again:,.0f} B; an empty server has {weights.empty / MIB:,.1f} MiB"
    )
    if not weights.is_idle:
        note += "; the actors had not all gone in time"
    details = {"loaded": loaded, "idle": idle, "restarted": again, "emptyBytes": weights.empty}
    return {"memory": Found(max(idle, again), note=note, details=details)}


def start_clean(grounds: Grounds, shelf: Shelf) -> dict[str, Found]:
    """The slowest start of a few on a large database that was closed as it should be."""
    starts: list[float] = []
    with shelf.using(shelf.fleet) as stored:
        for _ in range(grounds.rounds):
            with grounds.server(stored.database) as server:
                starts.append(server.start_s)
                resident = server.resident
                check_states(server, stored.march)
            if server.start_s > START_CLEAN_MAX_S:
                break  # It will not get faster, and may take minutes.
    note = f"{len(starts)} starts, the fastest took {min(starts):.2f} s; {resident / MIB:,.0f} MiB"
    return {"start-clean": Found(max(starts), note=note, details={"residentBytes": resident})}


def start_killed(grounds: Grounds, shelf: Shelf) -> dict[str, Found]:
    """The start after SIGKILL under load, and that nothing acknowledged is lost."""
    with shelf.using(shelf.fleet) as stored:
        with grounds.server(stored.database) as server:
            tail = grounds.scaled(TAIL, TAIL_MIN)
            send_batches(server.port, stored.march.batches(tail), total=tail)
            stored.sent(tail)
            fates = send_singles(
                server.port,
                stored.march.messages(MESSAGES_MAX),
                connections=KILL_CONNECTIONS,
                seconds=grounds.seconds,
                kill=server.kill,
            )
        with grounds.server(stored.database) as server:
            check_fates(server, fates)
            stored.sent(len(fates.acknowledged) + len(fates.unknown))
            check_states(server, stored.march)
    note = f"killed after {tail:,} messages in batches and {len(fates.acknowledged):,} single ones"
    return {"start-killed": Found(server.start_s, note=note)}


def check_fates(server: Server, fates: Fates) -> None:
    """Send all of it again: what was acknowledged must be known, the rest is stored by that.

    MeasurementFailed when one acknowledged message is new to the server.
    """
    for sent, outcomes in (
        (fates.acknowledged, DUPLICATE),
        (fates.unknown, (*STORED, *DUPLICATE)),
    ):
        batches = in_batches(message.body for message in sent)
        send_batches(server.port, batches, total=len(sent), connections=1, outcomes=outcomes)


class _Rocket(msgspec.Struct, frozen=True):
    """What decides the order."""

    speed: int


class _List(msgspec.Struct, frozen=True):
    """A page of rockets."""

    count: int
    rockets: list[_Rocket]


class Queries:
    """Asks for the fastest rockets at fixed times and notes how long that took.

    A wait counts from the time at which a query was due, so that a slow answer shows in all it
    held up.
    """

    def __init__(self, reader: Reader, rockets: int) -> None:
        self._reader = reader
        self._expected = min(LIST_MAX, rockets)
        self.latencies: list[float] = []
        self.ages: list[int] = []

    def ask_for(self, seconds: float) -> None:
        """Ask again and again for so long; MeasurementFailed when a list is not right."""
        start = perf_counter()
        for index in range(int(seconds / QUERY_EVERY_S)):
            due = start + index * QUERY_EVERY_S
            sleep(max(0.0, due - perf_counter()))
            if perf_counter() - start > seconds + TIMEOUT_S:
                raise MeasurementFailed("the queries cannot keep up: 10 s late")
            self.latencies.append(self._ask(due))

    def _ask(self, due: float) -> float:
        reply = self._reader.get(LIST)
        took = perf_counter() - due
        if age := reply.headers.get("age-ms"):
            self.ages.append(int(age))
        check_list(reply.body, self._expected)
        return took

    def ask_once(self) -> float:
        """Ask one time and leave it out of what is noted; gives the seconds."""
        return self._ask(perf_counter())


def check_list(body: bytes, expected: int) -> None:
    """Hold a list against what it must be: whole, the fastest first."""
    content = msgspec.json.decode(body, type=_List)
    if not content.count == len(content.rockets) == expected:
        raise MeasurementFailed(f"a list has {content.count:,} rockets, not {expected:,}")
    if any(one.speed < other.speed for one, other in pairwise(content.rockets)):
        raise MeasurementFailed("a list is not sorted")


def fleet_list(grounds: Grounds, shelf: Shelf) -> dict[str, Found]:
    """Sorted lists of a large fleet under full load: their waits, and what they cost messages."""
    cpu_s = {False: 0.0, True: 0.0}
    answered = {False: 0.0, True: 0.0}
    with (
        shelf.using(shelf.many) as stored,
        grounds.server(stored.database) as server,
        closing(Reader(server.url)) as reader,
    ):
        queries = Queries(reader, stored.march.rockets)
        first_ms = queries.ask_once() * 1000
        paused_ms = 0.0
        for _ in range(grounds.rounds):
            for with_queries in (False, True):
                if with_queries:
                    # Who asks all the time does not wait for what a pause has left undone.
                    paused_ms = max(paused_ms, queries.ask_once() * 1000)
                before = server.cpu_s
                with grounds.wrk_beside(server, stored.march) as finished:
                    if with_queries:
                        queries.ask_for(grounds.seconds)
                    outcome = finished()
                cpu_s[with_queries] += server.cpu_s - before
                answered[with_queries] += outcome.details["requests"]
                stored.settle(server, outcome)
        check_states(server, stored.march)
    latencies = sorted(queries.latencies)
    age_ms = max(queries.ages) if queries.ages else None
    note = (
        f"{len(latencies)} queries, p50 {percentile(latencies, 0.5) * 1000:.2f} ms, the slowest "
        f"{latencies[-1] * 1000:.2f} ms; before them one after the start {first_ms:.2f} ms, after "
        f"load without any {paused_ms:.2f} ms; Age-Ms "
        + ("was not sent" if age_ms is None else f"at most {age_ms:,}")
    )
    details = {"queries": len(latencies), "firstMs": first_ms, "pausedMs": paused_ms}
    if age_ms is not None:
        details["ageMaxMs"] = age_ms
    per_message = {key: cpu_s[key] / answered[key] * 1e6 for key in cpu_s}
    return {
        "list-p99": Found(percentile(latencies, 0.99) * 1000, note=note, details=details),
        "list-cpu": Found(per_message[True], per_message[False]),
    }


def reverse(grounds: Grounds, shelf: Shelf) -> dict[str, Found]:
    """One rocket's messages from the last to the first: its state, and how memory grows."""
    total = grounds.scaled(REVERSED, REVERSED_MIN)
    with shelf.fresh() as database, grounds.server(database) as server:
        before = weigh_warm(server)
        # One connection keeps the order, so that there is one gap and no more.
        batches = in_batches(in_reverse(0, total))
        seconds = send_batches(server.port, batches, total=total, connections=1, say=grounds.say)
        grown = (server.resident_peak - before) / MIB
        with closing(Reader(server.url)) as reader:
            check_state(reader, 0, total)
    note = f"{total:,} messages, {total / seconds:,.0f}/s; the figure is the most it grew by"
    return {"reverse": Found(grown, note=note, details={"rate": total / seconds})}
