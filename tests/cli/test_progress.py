"""The progress bar of a sweep on a terminal: it fits the width, moves, and is gone at the end; plain lines elsewhere."""
import fcntl
import os
import pty
import re
import struct
import subprocess
import termios

import harness

WIDTH = 72
where = harness.folder()
try:
    ini = where / "bar.ini"
    ini.write_text(harness.FAKE_INI.format(fake="step:0.02"))
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 30, WIDTH, 0, 0))
    process = subprocess.Popen(harness.command(0, ini, "--set", "stage.search.rank=2,4"), env=harness.ENVIRONMENT,
                               stdout=subprocess.DEVNULL, stderr=follower, stdin=subprocess.DEVNULL)
    os.close(follower)
    seen = b""
    while True:
        try:
            block = os.read(leader, 4096)
        except OSError:
            break
        if not block:
            break
        seen += block
    assert process.wait(timeout=60) == 0, seen
    text = seen.decode()
    drawn = re.findall(r"\r\x1b\[K(\[[#.]{20}\] +\d+ %[^\r\n]*)", text)
    assert len(drawn) > 3 and max(map(len, drawn)) < WIDTH, drawn
    shares = [int(re.search(r"(\d+) %", line).group(1)) for line in drawn]
    assert max(shares) > 50 and any("ETA 0m" in line for line in drawn) and any("best" in line for line in drawn), drawn
    assert text.rstrip("\n").rpartition("\r\x1b[K")[2].count("[#") == 0, "the bar is still there at the end"
    done = harness.run(0, ini, "--output", where / "plain")
    assert "\x1b" not in done.stderr and "[#" not in done.stderr, done.stderr
    print(f"{len(drawn)} bars drawn: {drawn[-1]}")
finally:
    harness.clean(where)
