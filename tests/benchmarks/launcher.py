"""Runs one command and prints its exit code, wall seconds, CPU seconds and peak KiB (wait4).

A process of its own, started with `python -I -S`, because a child's peak is never below that of the process that
starts it: here 9 MB, in the bench 50 MB.
"""

import os
import sys
import time


def main(command: list[str]) -> None:
    silence = (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)
    begun = time.monotonic()
    child = os.posix_spawnp(command[0], command, os.environ, file_actions=[silence])
    _, status, usage = os.wait4(child, 0)
    wall = time.monotonic() - begun
    print(os.waitstatus_to_exitcode(status), wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss)


if __name__ == "__main__":
    main(sys.argv[1:])
