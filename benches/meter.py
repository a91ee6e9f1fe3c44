"""Runs one command and writes what it took: `meter.py RESULT COMMAND...`.

A process of its own because of the peak memory: Linux counts the process that starts a program towards the program's
peak. This one has about 8 MiB, the runner several times that. It therefore imports nothing that is not built in, and a
peak of 8 MiB means that much or less.
"""

import posix
import sys
import time

started = time.monotonic()
child = posix.posix_spawnp(sys.argv[2], sys.argv[2:], posix.environ)
# Counts the command and every process below it that was waited for; the peak is that of the largest single one.
_, status, usage = posix.wait4(child, 0)
wall = time.monotonic() - started
with open(sys.argv[1], "w") as result:
    print(posix.waitstatus_to_exitcode(status), wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss, file=result)
