"""mpirun dies with everything: the steps between a trial's checkpoint and its last journaled progress are entered as lost,
and with lost = charge charged, when the sweep goes on."""
import json
import os
import signal
import time

import harness

where = harness.folder()
ini = where / "fake.ini"
ini.write_text("""
[stage.search]
rank = 4
steps = 400
[budget]
flops = 1e16
lost = charge
[run]
runner = fake
fake = step:2e-2
""")
output = where / "out"
process = harness.start(2, ini, "--output", output)
journal = output / "journal.jsonl"


def events(kind):
    return [e for e in map(json.loads, journal.read_text().splitlines()) if e["e"] == kind]


deadline = time.time() + 60
while time.time() < deadline and not (journal.exists() and '"e":"progress"' in journal.read_text()):
    time.sleep(0.05)
os.kill(process.pid, signal.SIGKILL)
process.communicate(timeout=60)
time.sleep(1)
steps = events("progress")[-1]["step"]
assert 0 < steps < 400, steps
step_flops = events("trial")[0]["trial"]["price"]["step"]

harness.run(2, ini, "--output", output, "--break-lock")
lost = [e for e in events("settle") if e["lost"]]
assert [e["lost"] for e in lost] == [e["flops"] for e in lost] == [steps * step_flops], (lost, steps, step_flops)
row = harness.table(output)[0]
assert int(row["flops_lost"]) == steps * step_flops, row
assert int(row["flops_counted"]) == (400 + steps) * step_flops, row
harness.run(0, "check", output)

# `steps = fill` buys the same steps when a finished sweep is started again.
ini.write_text("""
[stage.search]
rank = 2, 4
steps = 20
[stage.final]
from = best
steps = fill
[budget]
flops = 1e13
[run]
runner = fake
fake = none
""")
harness.run(0, ini, "--output", where / "fill")
before = (where / "fill" / "journal.jsonl").read_bytes()
assert int(harness.table(where / "fill")[2]["steps"]) > 20
harness.run(0, ini, "--output", where / "fill")
assert (where / "fill" / "journal.jsonl").read_bytes() == before, "a finished sweep was changed"
# With a larger budget it buys what that affords beside the earlier final trial, once.
ini.write_text(ini.read_text().replace("1e13", "2e13"))
first = int(harness.table(where / "fill")[2]["steps"])
harness.run(0, ini, "--output", where / "fill")
rows = harness.table(where / "fill")
assert [row["status"] for row in rows] == ["done", "done", "superseded", "done"], rows
assert int(rows[3]["steps"]) > first / 2, rows
before = (where / "fill" / "journal.jsonl").read_bytes()
harness.run(0, ini, "--output", where / "fill")
assert (where / "fill" / "journal.jsonl").read_bytes() == before, "a finished sweep was changed"
harness.run(0, "check", where / "fill")

# What a stage's share cuts is not said to have passed the whole budget.
ini.write_text(ini.read_text().replace("[stage.final]", "share = 1\n[stage.final]").replace("2e13", "1e18"))
harness.run(0, ini, "--output", where / "share", "--set", "budget.over=skip", "--set", "stage.search.steps=2000, 90000000")
reasons = {row["status"]: row["cut_reason"] for row in harness.table(where / "share")}
assert "or of the stage's share" in reasons["cut"], reasons
harness.clean(where)
print(f"{steps} steps that no checkpoint had are in the ledger")
