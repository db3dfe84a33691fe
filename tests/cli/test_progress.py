"""The progress bar of a sweep on a terminal: it fits the width, moves, and is gone at the end; plain lines elsewhere.
What `watch` says beside it of a trial that trains."""
import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import termios
import time

import harness

WIDTH = 100


def watch_training(ini, output):
    """Loss and step of the trial under way come to `watch` with the journal, and the journal stays short."""
    running = harness.start(0, ini, "--output", output, "--set", "run.fake=step:0.1", "--set", "stage.search.rank=4",
                            "--set", "stage.search.learning_rate=5e-5", "--set", "stage.search.steps=500")
    deadline = time.time() + 60
    worker = {}
    while worker.get("loss") is None and time.time() < deadline:
        time.sleep(0.3)
        if (output / "journal.jsonl").exists():
            workers = json.loads(harness.run(0, "watch", output, "--once", "--json").stdout)["workers"]
            worker = workers[0] if workers else {}
    table = harness.run(0, "watch", output, "--once").stdout
    lines = [json.loads(line) for line in (output / "journal.jsonl").read_text().splitlines()]
    running.send_signal(signal.SIGTERM)
    running.communicate(timeout=60)
    told = [line for line in lines if line["e"] == "progress"]
    assert worker.get("loss") and 0 < worker["step"] < 500 and worker["n_steps"] == 500, worker
    assert any(line["step"] == worker["step"] and abs(line["value"] - worker["loss"]) < 1e-12 for line in told), told
    assert re.search(rf"loss +time +trial\nrank 0 .*\d+/500 .* {told[-1]['value']:.4g} ", table), table
    assert len(told) <= 1 + (told[-1]["t"] - lines[0]["t"]) / 4, told
    return worker


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
    drawn = re.findall(r"\r\x1b\[K(\[[#.]{5,20}\] +\d+ %[^\r\n]*)", text)
    assert len(drawn) > 3 and max(map(len, drawn)) < WIDTH, drawn
    shares = [int(re.search(r"(\d+) %", line).group(1)) for line in drawn]
    assert max(shares) > 50 and any("ETA 0m" in line for line in drawn) and any("best" in line for line in drawn), drawn
    assert any(re.search(r"loss [\d.]+  step \d+/\d+", line) for line in drawn), drawn
    assert text.rstrip("\n").rpartition("\r\x1b[K")[2].count("[#") == 0, "the bar is still there at the end"
    done = harness.run(0, ini, "--output", where / "plain")
    assert "\x1b" not in done.stderr and "[#" not in done.stderr, done.stderr
    worker = watch_training(ini, where / "watched")
    print(f"{len(drawn)} bars drawn: {drawn[-1]}; watched at step {worker['step']}: loss {worker['loss']}")
finally:
    harness.clean(where)
