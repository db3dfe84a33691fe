"""[budget] hours and gpu_hours count what earlier runs of the folder took: a sweep that was killed or stopped gets what is
left of them; when nothing is, it is refused with exit code 4 and changes no byte but a view that the kill left behind;
with more it goes on to the numbers of an undisturbed one."""
import json
import os
import signal
import time

import harness

SECONDS = 4.0  # of the cap; the sweep needs more on two workers
CAPS = {"hours": SECONDS / 3600, "gpu_hours": 2 * SECONDS / 3600}


def lines(output):
    """Whole lines only: the sweep may be writing."""
    return [json.loads(line) for line in (output / "journal.jsonl").read_text().split("\n")[:-1]]


def used(output):
    """Seconds from each run's first line to its last, by the journal."""
    total, begin, last = 0.0, 0.0, 0.0
    for line in lines(output):
        if line["e"] == "sweep":
            total += last - begin
            begin = line["t"]
        last = line["t"]
    return total + last - begin


def kill_after(seconds, words):
    output = words[words.index("--output") + 1]
    process = harness.start(3, *words)
    deadline = time.time() + 60
    while time.time() < deadline and not ((output / "journal.jsonl").exists() and used(output) > seconds):
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    time.sleep(1)


where = harness.folder()
ini = where / "fake.ini"
ini.write_text(harness.FAKE_INI.format(fake="step:0.05"))  # 230 steps: 12 s of one worker
harness.run(0, ini, "--set", "run.fake=none", "--output", where / "whole")
expected = [(row["name"], row["val_loss"]) for row in harness.numbers(where / "whole")]

for key, cap in CAPS.items():
    output = where / key
    words = [ini, "--set", f"budget.{key}={cap}", "--output", output]
    kill_after(SECONDS / 2, words)
    time.sleep(SECONDS / 2)  # between runs: counts for nothing
    before = used(output)
    planned = json.loads(harness.run(0, "plan", *words, "--json").stdout)
    factor = 2 if key == "gpu_hours" else 1
    assert planned[f"{key}_cap"] == cap and abs(planned[f"{key}_used"] * 3600 - factor * before) < 1e-3, planned
    done = harness.run(3, *words, "--break-lock", expect=4)
    assert f"[budget] {key} = " in done.stderr and "is used up" in done.stderr and "raise it" in done.stderr, done.stderr
    assert before < SECONDS <= used(output) < SECONDS + before, (before, used(output))
    statuses = [row["status"] for row in harness.table(output)]
    assert "done" in statuses and "interrupted" in statuses, statuses
    assert (output / "results.h5").exists()

    was = harness.fingerprint(output)
    done = harness.run(3, *words, expect=4)
    assert done.stderr.count("is used up") == 1 and "Raise it to go on. Nothing was started" in done.stderr, done.stderr
    assert "search" in done.stdout, done.stdout
    assert harness.fingerprint(output) == was, "a refused run changed something"
    for reader in ["plan", *words], ["check", *words], ["check", output]:
        assert f"[budget] {key} = " in harness.run(0, *reader, expect=4).stderr, reader
    assert harness.fingerprint(output) == was
    (output / "results.h5").unlink()
    harness.run(3, *words, expect=4)
    assert (output / "results.h5").exists()

    harness.run(3, ini, "--set", f"budget.{key}={10 * cap}", "--set", "run.fake=none", "--output", output)
    assert [(row["name"], row["val_loss"]) for row in harness.numbers(output)] == expected, harness.numbers(output)
    assert "nothing to do" in harness.run(3, *words, "--set", "run.fake=none").stderr  # what is finished needs no time
    for reader in ["plan", *words, "--set", "run.fake=none"], ["check", output]:
        harness.run(0, *reader)
    print(f"[budget] {key}: a kill, the rest, nothing, more")
harness.clean(where)
