"""How much memory a process takes, as the kernel counts it."""

import re
from pathlib import Path


class Memory:
    """What a process takes from now on; all in MiB of resident memory."""

    def __init__(self, pid: int) -> None:
        self._process = Path(f"/proc/{pid}")
        (self._process / "clear_refs").write_text("5")  # the peak begins anew (proc(5))
        self.before = self._field("VmRSS")

    @property
    def growth(self) -> float:
        """How much more it takes now than it did at first."""
        return self._field("VmRSS") - self.before

    @property
    def peak_growth(self) -> float:
        """How much more it took at most, however shortly."""
        return self._field("VmHWM") - self.before

    def _field(self, name: str) -> float:
        status = (self._process / "status").read_text()
        found = re.search(rf"(?m)^{name}:\s+(\d+) kB$", status)
        assert found is not None, f"there is no {name} in the status of the process"
        return int(found[1]) / 1024
