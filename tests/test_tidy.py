"""The code's own rules, as tests.

A rule is a function that reads one source file and yields its complaints.
`RULES` says which files each rule reads.
`PLANTED` holds bad source for every rule, so a rule that has gone blind fails too.
Rules about the whole tree (dead modules, locks, reasons) and their planted faults are at the end.

The tables are meant to be edited by whoever has a reason, and the reason goes beside the entry.
"""

import ast
import io
import os
import re
import sys
import tokenize
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TypeGuard

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]

# What a module may import inside the package. The longest matching name counts, for the importer
# and for the imported: an entry speaks for everything below it that has no entry of its own.
ARROWS: Mapping[str, tuple[str, ...]] = {
    "rockets": (),
    "rockets.__main__": ("rockets.cli",),
    "rockets.settings": (),
    "rockets.telemetry": (),
    "rockets.simulator": ("rockets.domain",),
    "rockets.domain": ("rockets.domain",),
    "rockets.domain.checker": (),
    "rockets.domain.message_time": (),
    "rockets.domain.messages": ("rockets.domain.checker", "rockets.domain.message_time"),
    "rockets.domain.rocket": ("rockets.domain.messages",),
    "rockets.domain.effect": ("rockets.domain.messages", "rockets.domain.rocket"),
    "rockets.domain.ledger": (
        "rockets.domain.messages",
        "rockets.domain.rocket",
        "rockets.domain.effect",
    ),
    "rockets.journal": ("rockets.journal",),
    "rockets.journal.base": (),
    "rockets.journal.thread": (),
    "rockets.journal.part": ("rockets.journal.base",),
    "rockets.journal.writer": (
        "rockets.journal.base",
        "rockets.journal.part",
        "rockets.journal.spans",
        "rockets.journal.thread",
        "rockets.telemetry",
    ),
    "rockets.journal.space_watch": ("rockets.journal.base", "rockets.journal.writer"),
    "rockets.journal.memory": ("rockets.journal.base",),
    "rockets.journal.checksum": (),
    "rockets.journal.sql_rows": ("rockets.journal.base", "rockets.journal.checksum"),
    "rockets.journal.absence": ("rockets.journal.base",),
    "rockets.journal.hurry": (),
    "rockets.journal.spans": ("rockets.journal.base",),
    "rockets.journal.postgresql_spans": (
        "rockets.journal.base",
        "rockets.journal.postgresql_append",
        "rockets.journal.postgresql_link",
        "rockets.journal.spans",
        "rockets.journal.sql_rows",
    ),
    "rockets.journal.redis_spans": (
        "rockets.journal.redis_link",
        "rockets.journal.redis_store",
        "rockets.journal.spans",
    ),
    "rockets.journal.postgresql": (
        "rockets.journal.absence",
        "rockets.journal.base",
        "rockets.journal.hurry",
        "rockets.journal.postgresql_append",
        "rockets.journal.postgresql_ledgers",
        "rockets.journal.postgresql_link",
        "rockets.journal.postgresql_notes",
        "rockets.journal.postgresql_pruned",
        "rockets.journal.postgresql_spans",
        "rockets.journal.postgresql_store",
        "rockets.journal.spans",
        "rockets.journal.sql_rows",
    ),
    "rockets.journal.postgresql_append": (
        "rockets.journal.base",
        "rockets.journal.checksum",
        "rockets.journal.postgresql_link",
        "rockets.journal.postgresql_notes",
        "rockets.journal.postgresql_store",
        "rockets.journal.sql_rows",
    ),
    "rockets.journal.postgresql_link": (
        "rockets.journal.absence",
        "rockets.journal.base",
        "rockets.journal.hurry",
    ),
    "rockets.journal.postgresql_store": (
        "rockets.journal.base",
        "rockets.journal.postgresql_link",
    ),
    "rockets.journal.postgresql_ledgers": (
        "rockets.journal.base",
        "rockets.journal.checksum",
        "rockets.journal.postgresql_link",
    ),
    "rockets.journal.postgresql_notes": (
        "rockets.journal.base",
        "rockets.journal.postgresql_link",
        "rockets.journal.sql_rows",
    ),
    "rockets.journal.postgresql_pruned": (
        "rockets.journal.base",
        "rockets.journal.postgresql_link",
        "rockets.journal.sql_rows",
    ),
    "rockets.journal.redis_streams": (
        "rockets.journal.absence",
        "rockets.journal.base",
        "rockets.journal.checksum",
        "rockets.journal.hurry",
        "rockets.journal.redis_append",
        "rockets.journal.redis_ledgers",
        "rockets.journal.redis_link",
        "rockets.journal.redis_notes",
        "rockets.journal.redis_pruned",
        "rockets.journal.redis_spans",
        "rockets.journal.redis_store",
        "rockets.journal.spans",
    ),
    "rockets.journal.redis_append": (
        "rockets.journal.base",
        "rockets.journal.checksum",
        "rockets.journal.redis_link",
        "rockets.journal.redis_notes",
        "rockets.journal.redis_store",
    ),
    "rockets.journal.redis_policy": ("rockets.journal.base",),
    "rockets.journal.redis_link": (
        "rockets.journal.absence",
        "rockets.journal.base",
        "rockets.journal.hurry",
        "rockets.journal.redis_policy",
    ),
    "rockets.journal.redis_store": ("rockets.journal.base", "rockets.journal.redis_link"),
    "rockets.journal.redis_notes": (
        "rockets.journal.base",
        "rockets.journal.checksum",
        "rockets.journal.redis_link",
        "rockets.journal.redis_store",
    ),
    "rockets.journal.redis_ledgers": (
        "rockets.journal.base",
        "rockets.journal.checksum",
        "rockets.journal.redis_link",
        "rockets.journal.redis_store",
    ),
    "rockets.journal.redis_pruned": (
        "rockets.journal.base",
        "rockets.journal.checksum",
        "rockets.journal.redis_ledgers",  # reads names in order, as it does
        "rockets.journal.redis_link",
        "rockets.journal.redis_store",
    ),
    "rockets.journal.sqlite": (
        "rockets.journal.base",
        "rockets.journal.space",
        "rockets.journal.sql_rows",
        "rockets.journal.sqlite_file",
        "rockets.journal.sqlite_ledgers",
        "rockets.journal.sqlite_notes",
        "rockets.journal.sqlite_pruned",
    ),
    "rockets.journal.sqlite_shared": (
        "rockets.journal.base",
        "rockets.journal.space",
        "rockets.journal.sqlite",
        "rockets.journal.sqlite_file",
    ),
    "rockets.journal.backup": ("rockets.journal.base", "rockets.journal.sqlite_file"),
    "rockets.journal.space": ("rockets.journal.base",),
    "rockets.journal.sqlite_ledgers": ("rockets.journal.base", "rockets.journal.checksum"),
    "rockets.journal.sqlite_pruned": ("rockets.journal.base", "rockets.journal.sql_rows"),
    "rockets.journal.sqlite_notes": ("rockets.journal.base", "rockets.journal.sql_rows"),
    "rockets.journal.sqlite_file": ("rockets.journal.base",),
    "rockets.actors": ("rockets.actors", "rockets.domain", "rockets.journal", "rockets.telemetry"),
    "rockets.actors.history": (
        "rockets.actors.base",
        "rockets.actors.read_model",
        "rockets.actors.turn",
        "rockets.domain",
        "rockets.journal.base",
        "rockets.journal.writer",
    ),
    "rockets.web": ("rockets.web", "rockets.actors", "rockets.domain", "rockets.telemetry"),
    "rockets.web.connections": (),  # the front's register: it knows no request
    "rockets.web.readiness": ("rockets.web.connections",),
    "rockets.web.pages": ("rockets.web.etags",),
    "rockets.web.dashboard": ("rockets.web.pages", "rockets.web.problems"),
    "rockets.web.swagger_ui": ("rockets.web.pages", "rockets.web.problems"),
    "rockets.web.problem_pages": ("rockets.web.pages", "rockets.web.problems"),
    "rockets.web.route": ("rockets.web.problems",),
    "rockets.web.etags": (),
    "rockets.web.conditional": ("rockets.web.etags",),  # bodies and headers, of whatever
    "rockets.listening": ("rockets.stopping",),  # hands out sockets and does not know to whom
    # Lends a connection of the front's to Hypercorn, so it knows the front's streams.
    "rockets.lending": ("rockets.web", "rockets.telemetry"),
    # They put together what `server` runs.
    "rockets.health": ("rockets.actors", "rockets.journal", "rockets.settings", "rockets.web"),
    "rockets.limits": ("rockets.actors", "rockets.settings", "rockets.web"),
    "rockets.stopping": ("rockets.journal",),
    "rockets.storage": (
        "rockets.journal",
        "rockets.settings",
        "rockets.stopping",
    ),
    "rockets.instance": (
        "rockets.actors",
        "rockets.journal",
        "rockets.limits",
        "rockets.settings",
        "rockets.stopping",
    ),
    "rockets.server": (
        "rockets.actors",
        "rockets.health",
        "rockets.instance",
        "rockets.journal",
        "rockets.lending",
        "rockets.limits",
        "rockets.listening",
        "rockets.settings",
        "rockets.stopping",
        "rockets.storage",
        "rockets.web",
        "rockets.worker",
        "rockets.worker_health",
    ),
    "rockets.worker": (
        "rockets.listening",
        "rockets.settings",
        "rockets.stopping",
        "rockets.worker_board",
    ),
    "rockets.worker_board": (),
    "rockets.worker_health": ("rockets.web.operations", "rockets.worker"),
    # It serves nothing itself, so it knows nothing of what serves.
    "rockets.workers": (
        "rockets.journal",
        "rockets.listening",
        "rockets.settings",
        "rockets.stopping",
        "rockets.worker",
        "rockets.worker_board",
    ),
    # It measures the server from outside, as a process, so it imports nothing of it.
    "rockets.bench": ("rockets.bench",),
    "rockets.bench.floor": (),  # what is possible, so nothing of ours may slow it down
    "rockets.bench.no_op": (),  # the same for what Quart and Hypercorn alone cost
    "rockets.bench.commits": ("rockets.bench", "rockets.journal"),  # writes the journal's table
    "rockets.bench.inserts": ("rockets.bench", "rockets.journal"),  # the same on a server
    "rockets.cli": ("rockets",),
}
VERSION = "rockets.__version__"  # anyone may say which version runs

# Who may import these packages. None at all may import what has an empty tuple.
FOREIGN: Mapping[str, tuple[str, ...]] = {
    "hypercorn": ("rockets.lending", "rockets.bench.no_op"),  # the no-op measures it as it comes
    "h11": ("rockets.cli.client",),  # the client's parser; Hypercorn's is Hypercorn's own affair
    "h2": (),  # HTTP/2 is off
    "wsproto": (),  # WebSocket is off
    "httptools": ("rockets.bench.floor",),  # the service itself does without
    "quart": ("rockets.web", "rockets.bench.no_op"),
    "quart_trio": ("rockets.web", "rockets.bench.no_op"),
    "apsw": (
        "rockets.journal",
        "rockets.actors.rocket_table",  # what long lists are read from, in memory
        "rockets.cli",  # `check` and `backup` look at the file itself
        "rockets.bench.commits",  # commits without the journal around it
        "rockets.bench.machine",  # says which SQLite it brings
    ),
    "psycopg": (
        "rockets.journal",
        "rockets.bench.inserts",  # inserts without the journal around it
        "rockets.bench.stores",  # makes a database for each measurement
    ),
    "redis": ("rockets.journal", "rockets.bench.stores"),  # for it: takes keys away again
    "rich": ("rockets.cli",),
    "click": ("rockets.cli",),
}
# In `web`, but in front of Quart: they see bytes and must work without it, and so must what they
# import.
# fmt: off
QUART_FREE = tuple(
    f"rockets.web.{name}"
    for name in (
        "answer_bound", "batch", "body_stream", "byte_budget", "connections", "etags",
        "fast_lane", "feed", "feed_events", "feed_reader", "framing", "front", "parameters",
        "problems", "readiness", "reading", "rocket_list", "streams", "tls",
    )
)
# fmt: on

# `domain` is pure, so of the standard library it may not have what reaches outside.
# fmt: off
IMPURE = frozenset({
    "asyncio", "concurrent", "io", "logging", "multiprocessing", "os", "pathlib", "queue",
    "random", "secrets", "select", "shutil", "signal", "socket", "sqlite3", "ssl",
    "subprocess", "sys", "tempfile", "threading", "time", "urllib", "uuid",
})
# fmt: on

# Every task has a parent one can point at: these files own one.
SPAWN_SITES = (
    "src/rockets/server.py",  # the process: listeners, sweeps, signals
    "src/rockets/workers.py",  # the parent of workers: a task for each
    "src/rockets/stopping.py",  # the one task that waits for the journal's failure
    "src/rockets/web/front.py",  # the tasks of connections that something slow is done with
    "src/rockets/actors/fleet.py",  # one task per active rocket
    "src/rockets/actors/squads.py",  # one task for the rockets of a batch that nobody owns
    "src/rockets/actors/checkpoints.py",  # the one task that keeps ledgers
    "src/rockets/actors/retention.py",  # the one task that prunes
    "src/rockets/actors/rejections.py",  # the one task that keeps refused bodies
    "src/rockets/actors/replica.py",  # the two tasks that follow the other instances
    "src/rockets/actors/rocket_lists.py",  # the one task that brings the lists' table up to date
    "src/rockets/journal/writer.py",  # the one task that commits
    "src/rockets/journal/space_watch.py",  # the one task that looks at the disk
    "src/rockets/lending.py",  # Hypercorn's side of a lent request
    "src/rockets/cli/",  # a command is its own root
)
THREAD_SITES = ("src/rockets/journal/thread.py",)  # SQLite blocks; nothing else here does

FUNCTION_LINES_MAX = 70  # a screen; the docstring does not count
MODULE_LINES_MAX = 400
# The ratchet: what is longer, with its length today. An entry may shrink, never grow, never linger.
LONG_FUNCTIONS: Mapping[str, int] = {}
LONG_MODULES: Mapping[str, int] = {}

# Modules nobody imports because something outside starts them.
ENTRY_POINTS = ("rockets", "rockets.__main__", "rockets.cli")

# Built from parts, so that this file keeps the rule too.
BANNED_WORDS = re.compile(rf"\b(TO{''}DO|FIX{''}ME|X{''}XX|used{' '}to)\b")
VAGUE_MODULES = ("utils", "helpers", "common", "misc")
MACHINE_PATH = re.compile(r"(?<![\w.~/-])/(?:work|root|home|Users|private)/\w")
REGISTRY_HOST = re.compile("|".join(rf"{name}\.{'org'}" for name in ("pypi", "pythonhosted")))
CLOCK_OR_CHANCE = re.compile(
    r"^(time\.time|time\.time_ns|random|random\..*|secrets|secrets\..*)$"
    r"|\bdatetime\.(now|utcnow|today)$|\buuid[14]$"
)
LINT_EXCEPTION = re.compile(r"#\s*(type:\s*ignore|noqa|pragma:\s*no)\b(:?\s*[A-Z]+\d+,?|\[.*?\])*")
BARE_EXCEPTION = re.compile(r"#\s*(type:\s*ignore(?!\[)|noqa(?!:))\b")


Named = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True)
class Source:
    """One file of the repository: its path from the root, with slashes, and its text."""

    path: str
    text: str

    @property
    def nodes(self) -> tuple[ast.AST, ...]:
        """Every node of the parsed text; parsed once, whichever rule asks first."""
        return _nodes(self.text)

    @property
    def module(self) -> str:
        """The dotted name: src/rockets/cli/__init__.py is rockets.cli."""
        name = self.path.removeprefix("src/").removesuffix(".py").replace("/", ".")
        return name.removesuffix(".__init__")

    @property
    def package(self) -> str:
        """The dotted name that a relative import with one dot starts from."""
        return self.module if self.path.endswith("__init__.py") else self.module.rpartition(".")[0]


@cache
def _nodes(text: str) -> tuple[ast.AST, ...]:
    return tuple(ast.walk(ast.parse(text)))


@cache
def repository() -> tuple[Source, ...]:
    """Every text file of the repository; environments, caches and git's own files are not."""
    found = []
    for folder, folders, names in os.walk(ROOT):
        folders[:] = [name for name in folders if name == ".ci" or _is_ours(name)]
        for path in (Path(folder, name) for name in names if name != ".git"):
            content = path.read_bytes()
            if b"\0" not in content:
                text = content.decode("utf-8", "replace")
                found.append(Source(path.relative_to(ROOT).as_posix(), text))
    return tuple(sorted(found, key=lambda source: source.path))


def _is_ours(folder: str) -> bool:
    return not folder.startswith(".") and folder not in {"__pycache__", "dist", "node_modules"}


def imports(source: Source) -> Iterator[tuple[int, str]]:
    """Line and full name of everything a file imports; `from a import b` is a.b."""
    for node in source.nodes:
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = source.package.split(".")
                base = ".".join([*above[: len(above) - node.level + 1], *filter(None, [base])])
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)


def names(source: Source) -> Iterator[tuple[int, str]]:
    """Line and dotted name of every name and attribute, and of every `from` import."""
    for node in source.nodes:
        if isinstance(node, ast.Name | ast.Attribute):
            yield node.lineno, ast.unparse(node)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def is_within(name: str, places: Iterable[str]) -> bool:
    """Whether a dotted name is one of the places or below one."""
    return any(name == place or name.startswith(f"{place}.") for place in places)


Rule = Callable[[Source], Iterator[str]]

# --- Rules about one file ---------------------------------------------------------------------


def import_arrows(source: Source) -> Iterator[str]:
    """Inside the package, imports go only where the table says."""
    entry = max((name for name in ARROWS if is_within(source.module, [name])), key=len)
    if entry == "rockets" != source.module:
        yield f"{source.path}:1: {source.module} has no place in ARROWS"
    for line, name in imports(source):
        is_ours = is_within(name, ["rockets"]) and name != VERSION
        if is_ours and not is_within(name, ARROWS[entry]):
            yield f"{source.path}:{line}: {source.module} may not import {name}"


def foreign_packages(source: Source) -> Iterator[str]:
    """A library is imported only in the layer it belongs to."""
    for line, name in imports(source):
        package = name.partition(".")[0]
        allowed = is_within(source.module, FOREIGN.get(package, ("rockets",)))
        if package.startswith("quart") and source.module in QUART_FREE:
            allowed = False
        if not allowed:
            yield f"{source.path}:{line}: {source.module} may not import {package}"
        is_of_web = is_within(name, ["rockets.web"])
        if source.module in QUART_FREE and is_of_web and not is_within(name, QUART_FREE):
            yield f"{source.path}:{line}: {source.module} would import Quart by {name}"


def domain_is_pure(source: Source) -> Iterator[str]:
    """The domain knows the standard library's pure part and msgspec, and never waits."""
    for line, name in imports(source):
        package = name.partition(".")[0]
        known = package in sys.stdlib_module_names or package in {"msgspec", "rockets"}
        if not known or package in IMPURE:
            yield f"{source.path}:{line}: domain may not import {package}"
    for node in source.nodes:
        if isinstance(node, ast.AsyncFunctionDef | ast.Await):
            yield f"{source.path}:{node.lineno}: domain never waits"


def spawn_sites(source: Source) -> Iterator[str]:
    """Tasks start only where the table says, and never in somebody else's nursery."""
    for line, name in names(source):
        word = name.rpartition(".")[2]
        if word in {"add_background_task", "spawn_system_task"}:
            yield f"{source.path}:{line}: {word} gives a task no parent one can point at"
        if word in {"open_nursery", "start_soon"} and not source.path.startswith(SPAWN_SITES):
            yield f"{source.path}:{line}: {word} outside SPAWN_SITES"


def thread_sites(source: Source) -> Iterator[str]:
    """Threads start in one file."""
    for line, name in names(source):
        word = name.rpartition(".")[2]
        starts_one = word in {"Thread", "start_new_thread", "ThreadPoolExecutor"}
        if starts_one and source.path not in THREAD_SITES:
            yield f"{source.path}:{line}: {word} outside THREAD_SITES"


def function_length(source: Source) -> Iterator[str]:
    """A function fits a screen."""
    for node in source.nodes:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            place = f"{source.path}:{node.name}"
            yield from ratchet(place, _lines(node), FUNCTION_LINES_MAX, LONG_FUNCTIONS)


def _lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    lines = (function.end_lineno or function.lineno) - function.lineno + 1
    return lines - len((ast.get_docstring(function, clean=False) or "").splitlines())


def module_length(source: Source) -> Iterator[str]:
    """A module holds one noun, and one noun fits in a few screens."""
    lines = len(source.text.splitlines())
    yield from ratchet(source.path, lines, MODULE_LINES_MAX, LONG_MODULES)


def ratchet(place: str, lines: int, limit: int, known: Mapping[str, int]) -> Iterator[str]:
    """Long is a fault unless it is known, and what is known may only get shorter."""
    if lines > known.get(place, limit):
        yield f"{place}: {lines} lines, the limit is {known.get(place, limit)}"
    elif place in known and lines < known[place]:
        yield f"{place}: is {lines} lines now; lower its ratchet from {known[place]} or remove it"


def banned_words(source: Source) -> Iterator[str]:
    """Plans go to the tracker and history to git, not into the text."""
    for line, text in enumerate(source.text.splitlines(), 1):
        for found in BANNED_WORDS.finditer(text):
            yield f"{source.path}:{line}: banned: {found[0]}"


def vague_module_names(source: Source) -> Iterator[str]:
    """A function lives where its noun lives, not in a bag."""
    for part in source.module.split("."):
        if part.strip("_") in VAGUE_MODULES:
            yield f"{source.path}:1: a module called {part} has no noun"


def clocks_and_chance(source: Source) -> Iterator[str]:
    """Wall clocks, random numbers and made-up ids come in as arguments."""
    for line, name in names(source):
        if CLOCK_OR_CHANCE.search(name):
            yield f"{source.path}:{line}: {name} has to come in as an argument"


def docstrings(source: Source) -> Iterator[str]:
    """Every module, every class and every public function says what it is."""
    module = ast.parse(source.text)
    if not ast.get_docstring(module):
        yield f"{source.path}:1: the module has no docstring"
    yield from _undocumented(source.path, module)


def _undocumented(path: str, parent: ast.Module | ast.ClassDef) -> Iterator[str]:
    for node in parent.body:
        if _needs_docstring(node, parent) and not ast.get_docstring(node):
            yield f"{path}:{node.lineno}: {node.name} has no docstring"
        if isinstance(node, ast.ClassDef):
            yield from _undocumented(path, node)


def _needs_docstring(node: ast.stmt, parent: ast.Module | ast.ClassDef) -> TypeGuard[Named]:
    if isinstance(node, ast.ClassDef):
        return True
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or node.name.startswith("_"):
        return False
    if isinstance(parent, ast.ClassDef) and parent.name.startswith("_"):
        return False
    decorators = [ast.unparse(decorator) for decorator in node.decorator_list]
    return not any(name.endswith(("overload", ".setter")) for name in decorators)


def explained_exceptions(source: Source) -> Iterator[str]:
    """A lint exception in the code names its rule, and its reason on the same line."""
    for token in tokenize.generate_tokens(io.StringIO(source.text).readline):
        if token.type == tokenize.COMMENT:
            for bare in BARE_EXCEPTION.finditer(token.string):
                yield f"{source.path}:{token.start[0]}: {bare[0]} without a code"
            reason, exceptions = LINT_EXCEPTION.subn("", token.string)
            if exceptions and not re.search(r"\w+\W+\w+", reason):
                yield f"{source.path}:{token.start[0]}: a lint exception without a reason"


def no_print(source: Source) -> Iterator[str]:
    """Only the command line speaks to a terminal."""
    for node in source.nodes:
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "print":
            yield f"{source.path}:{node.lineno}: print outside the command line"


def no_machine_names(source: Source) -> Iterator[str]:
    """Nothing names a folder of one machine or the host that packages came from."""
    for line, text in enumerate(source.text.splitlines(), 1):
        for found in (*MACHINE_PATH.finditer(text), *REGISTRY_HOST.finditer(text)):
            yield f"{source.path}:{line}: names a machine: {found[0]}"


# Which paths a rule reads, from the first character to the last.
RULES: Mapping[Rule, str] = {
    import_arrows: r"src/rockets/.*\.py",
    foreign_packages: r"src/rockets/.*\.py",
    domain_is_pure: r"src/rockets/domain/.*\.py",
    spawn_sites: r"src/rockets/.*\.py",
    thread_sites: r"src/rockets/.*\.py",
    function_length: r"(src|tests)/.*\.py",
    module_length: r"src/rockets/.*\.py",
    # Not what others wrote and we only ship: minified files, uPlot and Swagger UI.
    banned_words: (
        r"(src|tests|docs)/(?!.*(\.min\.|/uPlot|/swagger-ui)).*\.(py|md|html|css|js)|[A-Z]+\.md|Makefile"
    ),
    vague_module_names: r"src/rockets/.*\.py",
    clocks_and_chance: r"src/rockets/(domain|actors|journal)/.*\.py",
    docstrings: r"src/rockets/.*\.py",
    explained_exceptions: r"(src|tests)/.*\.py",
    no_print: r"src/rockets/(?!cli/).*\.py",
    no_machine_names: r".*",
}

# A rule, a file it reads, bad source, and a part of what the rule must say about it.
PLANTED: tuple[tuple[Rule, str, str, str], ...] = (
    (import_arrows, "domain/rocket.py", "from rockets.journal import base", "journal.base"),
    (import_arrows, "domain/messages.py", "from rockets.domain.ledger import x", "domain.ledger"),
    (import_arrows, "domain/effect.py", "from .ledger import Ledger", "domain.ledger"),
    (import_arrows, "journal/sqlite.py", "import rockets.domain.messages", "domain.messages"),
    (import_arrows, "journal/base.py", "from ..telemetry import log", "telemetry"),
    (import_arrows, "actors/fleet.py", "from rockets.web.app import create_app", "web.app"),
    (import_arrows, "web/messages.py", "from rockets.settings import Settings", "settings"),
    (import_arrows, "web/rockets.py", "def f():\n    import rockets.journal", "rockets.journal"),
    (import_arrows, "telemetry.py", "from rockets.settings import Settings", "settings"),
    (import_arrows, "server.py", "from rockets import workers", "workers"),
    (import_arrows, "surprise.py", "", "no place"),
    (foreign_packages, "server.py", "from hypercorn.config import Config", "hypercorn"),
    (foreign_packages, "lending.py", "import h11", "h11"),
    (foreign_packages, "lending.py", "import wsproto.events", "wsproto"),
    (foreign_packages, "web/fast_lane.py", "from quart_trio import QuartTrio", "quart_trio"),
    (foreign_packages, "web/front.py", "from rockets.web import messages", "web.messages"),
    (foreign_packages, "actors/fleet.py", "import quart", "quart"),
    (foreign_packages, "web/front.py", "import httptools", "httptools"),
    (import_arrows, "bench/floor.py", "from rockets.bench.outcome import x", "bench.outcome"),
    (import_arrows, "bench/stand.py", "from rockets.server import serve", "server"),
    (domain_is_pure, "domain/rocket.py", "import trio", "trio"),
    (domain_is_pure, "domain/rocket.py", "from pathlib import Path", "pathlib"),
    (domain_is_pure, "domain/rocket.py", "async def f(): ...", "never waits"),
    (spawn_sites, "web/live.py", "async with trio.open_nursery() as n: pass", "open_nursery"),
    (spawn_sites, "actors/feed.py", "nursery.start_soon(f)", "start_soon"),
    (spawn_sites, "server.py", "app.add_background_task(f)", "add_background_task"),
    (thread_sites, "journal/writer.py", "threading.Thread(target=f).start()", "Thread"),
    (thread_sites, "server.py", "from threading import Thread", "Thread"),
    (function_length, "server.py", "def f():\n" + "    x = 1\n" * 70, "71 lines"),
    (module_length, "server.py", "x = 1\n" * 401, "401 lines"),
    (banned_words, "server.py", f"# TO{''}DO: later", "banned"),
    (banned_words, "server.py", f"# It used{' '}to wait.", "banned"),
    (vague_module_names, "web/utils.py", "", "utils"),
    (vague_module_names, "common/clock.py", "", "common"),
    (clocks_and_chance, "actors/fleet.py", "now = time.time()", "time.time"),
    (clocks_and_chance, "actors/fleet.py", "from time import time_ns", "time_ns"),
    (clocks_and_chance, "journal/base.py", "datetime.datetime.now(UTC)", "datetime.now"),
    (clocks_and_chance, "actors/fleet.py", "random.choice(x)", "random"),
    (clocks_and_chance, "actors/fleet.py", "from uuid import uuid4", "uuid4"),
    (docstrings, "server.py", "x = 1", "module has no"),
    (docstrings, "server.py", "'x'\nclass _A: ...", "_A has no"),
    (docstrings, "server.py", "'x'\nclass A:\n 'x'\n async def f(self): ...", "f has no"),
    (explained_exceptions, "server.py", "x = 1  # type: ignore", "without a code"),
    (explained_exceptions, "server.py", "x = 1  # noqa", "without a code"),
    (explained_exceptions, "server.py", "x = 1  # noqa: SLF001", "without a reason"),
    (explained_exceptions, "server.py", "x = 1  # type: ignore[misc]", "without a reason"),
    (explained_exceptions, "server.py", "x = 1  # pragma: no cover", "without a reason"),
    (no_print, "server.py", "print('x')", "print"),
    (no_machine_names, "server.py", "# see /" + "home/me/notes", "names a machine"),
    (no_machine_names, "server.py", "# from files.pythonhosted." + "org", "names a machine"),
)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_every_file_keeps_the_rule(rule: Rule) -> None:
    reads = re.compile(RULES[rule]).fullmatch

    complaints = [said for source in repository() if reads(source.path) for said in rule(source)]

    assert not complaints, "\n".join(complaints)


@pytest.mark.parametrize(("rule", "path", "text", "part"), PLANTED)
def test_the_rule_complains_about_a_planted_fault(
    rule: Rule, path: str, text: str, part: str
) -> None:
    source = Source(f"src/rockets/{path}", text)
    assert re.fullmatch(RULES[rule], source.path), "the rule never reads this path"

    complaints = list(rule(source))

    assert any(part in said for said in complaints), complaints


def test_every_rule_has_a_planted_fault() -> None:
    assert {rule for rule, *_ in PLANTED} == set(RULES)


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [(90, "90 lines"), (80, ""), (75, "lower its ratchet"), (60, "lower its ratchet")],
)
def test_a_known_long_function_may_only_get_shorter_and_says_so(lines: int, complaint: str) -> None:
    said = list(ratchet("a.py:f", lines, 70, {"a.py:f": 80}))

    assert [complaint in words for words in said] == ([True] if complaint else [])


def test_the_ratchet_tables_name_only_what_exists() -> None:
    paths = {source.path for source in repository()}

    assert {name.partition(":")[0] for name in (*LONG_FUNCTIONS, *LONG_MODULES)} <= paths


# --- Dead modules -----------------------------------------------------------------------------


def dead_modules(sources: Iterable[Source]) -> list[str]:
    """Modules that no other module imports or names in a table of lazy imports."""
    sources = list(sources)
    wanted = set(ENTRY_POINTS)
    for source in sources:
        for name in (*(name for _, name in imports(source)), *_named_in_strings(source)):
            wanted |= {name, name.rpartition(".")[0]} - {source.module}
    packages = {source.package for source in sources if source.module != source.package}
    return sorted({source.module for source in sources} - wanted - packages)


def _named_in_strings(source: Source) -> Iterator[str]:
    """Lazy imports, written as "rockets.cli.serve" or "rockets.cli.serve:command"."""
    for node in source.nodes:
        text = node.value if isinstance(node, ast.Constant) else None
        if isinstance(text, str) and re.fullmatch(r"rockets(\.\w+)+(:\w+)?", text):
            yield text.partition(":")[0]


def test_every_module_is_imported_by_another_or_is_an_entry_point() -> None:
    ours = [source for source in repository() if re.fullmatch(r"src/rockets/.*\.py", source.path)]

    assert dead_modules(ours) == []


def test_a_module_that_only_imports_itself_is_dead() -> None:
    sources = [
        Source("src/rockets/cli/__init__.py", "COMMANDS = {'serve': 'rockets.cli.serve:command'}"),
        Source("src/rockets/cli/serve.py", "from rockets.server import run"),
        Source("src/rockets/server.py", "from . import settings"),
        Source("src/rockets/settings.py", ""),
        Source("src/rockets/lost.py", "import rockets.lost"),
    ]

    assert dead_modules(sources) == ["rockets.lost"]


# --- Dependencies: pinned with hashes, and with a reason -----------------------------------------


def lock_faults(requirements: Iterable[str], lock: str) -> Iterator[str]:
    """What is wrong with a hash-locked requirement file for these requirements."""
    pins: dict[str, str] = {}
    for entry in re.split(r"\n(?=[^\s#])", re.sub(r"(?m)^\s*#.*\n?", "", lock)):
        pin = re.match(r"([\w.-]+)==([^\s;]+)", entry)
        if pin is None:
            yield f"not a pin: {entry.splitlines()[0]}"
            continue
        pins[canonicalize_name(pin[1])] = pin[2]
        if not re.search(r"--hash=sha256:[0-9a-f]{64}\b", entry):
            yield f"{pin[1]} has no hash"
    for requirement in map(Requirement, requirements):
        version = pins.get(canonicalize_name(requirement.name))
        if version is None:
            yield f"{requirement.name} is not locked"
        elif version not in requirement.specifier:
            yield f"{requirement} is locked at {version}"


def missing_reasons(pyproject: str) -> Iterator[str]:
    """Dependencies and lint settings without a comment of two words or more on their line."""
    section = ""
    for number, line in enumerate(pyproject.splitlines(), 1):
        if header := re.match(r"\[+([\w.-]+)\]+", line):
            section = header[1]
        is_item = re.match(r'\s*".*[^\[]$', line)  # an opening bracket leaves it to its items
        is_list = re.match(r"[\w-]*(dependencies|requires|select|ignore|error_code)s? = \[.", line)
        is_override = section == "tool.mypy.overrides" and re.match(r"(?!module)\w+ =", line)
        has_reason = re.search(r"#\s*\S+\s+\S+", line)
        if (is_item or is_list or is_override) and not has_reason:
            yield f"pyproject.toml:{number}: no reason: {line.strip()}"


def _pyproject() -> str:
    return (ROOT / "pyproject.toml").read_text()


def _required() -> tuple[list[str], list[str]]:
    """What the service needs, its build backend included, and what its tests need besides."""
    pyproject = tomllib.loads(_pyproject())
    project = pyproject["project"]
    serve = [*pyproject["build-system"]["requires"], *project["dependencies"]]
    return serve, [*serve, *project["optional-dependencies"]["dev"]]


def test_every_dependency_is_locked_with_a_hash() -> None:
    serve, test = _required()
    extras = tomllib.loads(_pyproject())["project"]["optional-dependencies"]
    locks = {
        "serve": serve,
        "test": test,
        "postgresql": [*serve, *extras["postgresql"]],
        "redis": [*serve, *extras["redis"]],
        "release": tomllib.loads(_pyproject())["dependency-groups"]["release"],
    }

    for name, required in locks.items():
        lock = (ROOT / f"requirements/{name}.txt").read_text()
        assert list(lock_faults(required, lock)) == [], name


def test_what_the_tests_run_on_is_what_the_service_runs_on() -> None:
    pin = re.compile(r"(?m)^[\w.-]+==\S+")
    serve, postgresql, redis, test = (
        set(pin.findall((ROOT / "requirements" / name).read_text()))
        for name in ("serve.txt", "postgresql.txt", "redis.txt", "test.txt")
    )

    assert serve <= postgresql <= test
    assert serve <= redis <= test


def test_every_dependency_and_every_lint_exception_has_a_reason() -> None:
    assert list(missing_reasons(_pyproject())) == []


@pytest.mark.parametrize(
    ("lock", "fault"),
    [
        ("other==1.0 --hash=sha256:" + "0" * 64, "trio is not locked"),
        ("trio==0.35.0", "trio has no hash"),
        ("trio==0.34.0 --hash=sha256:" + "0" * 64, "trio==0.35.0 is locked at 0.34.0"),
        ("trio>=0.35.0", "not a pin: trio>=0.35.0"),
        ("--index-url x\ntrio==0.35.0 --hash=sha256:" + "0" * 64, "not a pin: --index-url x"),
    ],
)
def test_a_planted_fault_in_a_lock_is_found(lock: str, fault: str) -> None:
    assert fault in list(lock_faults(["trio==0.35.0"], f"# header\n{lock}\n"))


@pytest.mark.parametrize(
    "pyproject",
    [
        'dependencies = [\n    "trio==0.35.0",\n]',
        'requires = ["hatchling"]',
        'ignore = ["E501"]  # unsaid',
        '[tool.ruff.lint.per-file-ignores]\n"tests/**" = ["SLF"]',
        '[[tool.mypy.overrides]]\nmodule = "quart.*"\nignore_missing_imports = true',
    ],
)
def test_a_planted_line_without_a_reason_is_found(pyproject: str) -> None:
    assert len(list(missing_reasons(pyproject))) == 1
