"""A clock that is set back, or on, at every reading: durations are as long as they are, nothing is taken for a hang or
for the end of its time, and no checkpoint is taken before it is due."""
import json
import os
import re
import time

import harness

STEP = 1000  # seconds
LIMITS = ["--set", "run.time_limit=10m", "--set", "run.checkpoint_every=10m", "--set", "budget.hours=1", "--set", "evaluate.every=2"]
NO_CHECKPOINT = {"LVSWEEP_FAULT": "checkpoint_allocate:1:error"}


def check_durations(output, most):
    """No trial, baseline or part of one took longer than the whole sweep, or less than nothing."""
    rows = harness.table(output)
    for row in rows:
        parts = [float(row[key] or 0) for key in ("seconds_training", "seconds_evaluation")]
        assert row["status"] == "done" and row["attempt"] == "1", row
        assert 0 < float(row["seconds"]) < most and min(parts) >= 0 and sum(parts) < float(row["seconds"]), row
    events = map(json.loads, (output / "journal.jsonl").read_text().splitlines())
    baselines = [e["baseline"]["seconds"] for e in events if e["e"] == "baseline" and "seconds" in e["baseline"]]
    assert all(0 < seconds < most for seconds in baselines), baselines
    return rows, baselines


where = harness.folder()
fake = where / "fake.ini"
fake.write_text(harness.FAKE_INI.format(fake="step:0.005"))
tiny = harness.tiny_sweep(where)
assert os.environ["LVSWEEP_PROGRAM"].endswith("clock_set"), "another program would prove nothing"

for step in -STEP, STEP:
    environment = dict(NO_CHECKPOINT, LVSWEEP_TEST_CLOCK=str(step))
    for name, ini in ("fake", fake), ("tiny", tiny):
        output = where / f"{name}{step}"
        began = time.monotonic()
        done = harness.run(2, ini, *LIMITS, "--output", output, environment=environment)
        most = time.monotonic() - began
        rows, baselines = check_durations(output, most)
        if name == "tiny":
            assert baselines and all(float(row["seconds_evaluation"]) > 0 for row in rows), (baselines, rows)
            assert all(0 < float(row["tokens_per_second"]) < 1e9 for row in rows), rows
        busy = re.search(r"(\d+) % busy", done.stdout)
        assert busy and int(busy[1]) > 0, done.stdout

harness.clean(where)
