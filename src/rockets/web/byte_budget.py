"""How many bytes are held in memory for all requests together: of bodies, or of answers."""

from collections.abc import Callable
from types import TracebackType


class ByteBudget:
    """Counts the bytes held; `hold` gives one request its share.

    What is small is always let in, so that the large never shut it out: the limit of connections
    bounds that. `full` makes the error for who finds no room.
    """

    def __init__(
        self, total_max: int, *, full: Callable[[], Exception], small_max: int = 0
    ) -> None:
        self._total_max = total_max
        self._full = full
        self.small_max = small_max
        self.used = 0

    def hold(self) -> "Holding":
        """Start a share of nothing; it ends with the `with` block, or with `end`."""
        return Holding(self)

    def change(self, size: int) -> None:
        """Take or give back bytes; more than there is raises the error."""
        if size > 0 and self.used + size > self._total_max:
            raise self._full()
        self.used += size


class Holding:
    """The bytes of one request's body, or of its answer."""

    __slots__ = ("_budget", "_size")

    def __init__(self, budget: ByteBudget) -> None:
        self._budget = budget
        self._size = 0

    def __enter__(self) -> "Holding":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.end()

    def grow_to(self, size: int) -> None:
        """Hold this many bytes from now on; the budget's error where there is no room."""
        if size <= self._budget.small_max:
            return
        self._budget.change(size - self._size)
        self._size = size

    def end(self) -> None:
        """Give everything back; twice is once."""
        self._budget.change(-self._size)
        self._size = 0
