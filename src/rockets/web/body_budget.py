"""How many bytes of request bodies are held in memory, for all requests together."""

from types import TracebackType

from rockets.web.framing import FramingError


class BodyBudget:
    """Counts the bytes held; `hold` gives one request its share.

    A body of the size of a message is always let in, so that large ones never shut the small out:
    the limit of connections bounds those.
    """

    def __init__(self, total_max: int, *, small_max: int = 0) -> None:
        self._total_max = total_max
        self.small_max = small_max
        self.used = 0

    def hold(self) -> "Holding":
        """Start a share of nothing; it ends with the `with` block."""
        return Holding(self)

    def change(self, size: int) -> None:
        """Take or give back bytes; more than there is raises FramingError."""
        if size > 0 and self.used + size > self._total_max:
            raise FramingError("overloaded", "too many large bodies are under way")
        self.used += size


class Holding:
    """The bytes of one request's body."""

    __slots__ = ("_budget", "_size")

    def __init__(self, budget: BodyBudget) -> None:
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
        self._budget.change(-self._size)

    def grow_to(self, size: int) -> None:
        """Hold this many bytes from now on; FramingError where there is no room."""
        if size <= self._budget.small_max:
            return
        self._budget.change(size - self._size)
        self._size = size
