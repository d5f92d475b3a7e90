"""Run `rockets serve` as a service manager with socket activation does.

Run as `python -m tests.activated_serve DESCRIPTOR FLAG...`; the descriptor becomes the one that
sd_listen_fds(3) promises, and the process keeps its id.
"""

import os
import sys

FIRST_INHERITED = 3

if __name__ == "__main__":
    descriptor, *flags = sys.argv[1:]
    os.dup2(int(descriptor), FIRST_INHERITED, inheritable=True)
    passed_on = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1", "LISTEN_FDNAMES": "http"}
    command = [sys.executable, "-m", "rockets", "serve", *flags]
    os.execve(sys.executable, command, os.environ | passed_on)
