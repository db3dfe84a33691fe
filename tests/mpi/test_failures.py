"""Trainers that die, refuse and diverge: attempts, statuses, exit codes; no rank ever dies with them."""
import harness


def status(rows):
    return [row["status"] for row in rows]


def sweep(fake, ranks, expect, *more):
    where = harness.folder()
    ini = where / "fake.ini"
    ini.write_text(harness.FAKE_INI.format(fake=fake))
    harness.run(ranks, ini, "--output", where / "out", *more, expect=expect)
    rows = harness.table(where / "out")
    harness.clean(where)
    return rows


for ranks in (0, 3):
    rows = sweep("loss:0.3", ranks, 0)
    assert len(rows) == 10, rows
    best = [row["name"] for row in rows if row["lora_rank"] == "8" and float(row["learning_rate"]) == 1e-4]
    assert len(best) == 2, "the final stage takes rank 8 at 1e-4"

    for kind in ("kill", "exit", "abort", "error"):
        rows = sweep(f"step:1e-4+fail:1:{kind}+fail:4:{kind}", ranks, 0)
        assert len(rows) == 10 and rows[1]["attempt"] == "2" and rows[4]["attempt"] == "2", (kind, rows[1])

    rows = sweep("step:1e-4+fail:2:kill:0", ranks, 3, "--set", "run.retries=1")
    assert rows[2]["attempt"] == "2" and "signal 9" in rows[2]["error"], rows[2]
    assert rows[2]["error"].endswith("fake: kill, as [run] fake says"), "the trainer's last lines are in the record"
    assert sum(row["status"] == rows[0]["status"] for row in rows) == 9

    rows = sweep("fail:0:nan", ranks, 3)
    assert rows[0]["attempt"] == "1" and "not finite" in rows[0]["error"], rows[0]
    print(f"{ranks or 1} ranks: kill, exit, abort, error, failing for ever, diverging")

where = harness.folder()
ini = where / "fake.ini"
ini.write_text(harness.FAKE_INI.format(fake="step:1e-3+fail:1:hang"))
harness.run(3, ini, "--output", where / "out", environment={"LVSWEEP_HANG_SECONDS": "2"})
rows = harness.table(where / "out")
assert rows[1]["attempt"] == "2" and len(rows) == 10, rows[1]
harness.clean(where)
print("a hanging trainer is ended and its trial run again")

where = harness.folder()
ini = where / "fake.ini"
ini.write_text(harness.FAKE_INI.format(fake="step:2e-2"))
harness.run(3, ini, "--output", where / "out", "--set", "run.time_limit=2s", expect=75)
harness.run(3, ini, "--output", where / "out")
assert len(harness.table(where / "out")) == 10
harness.clean(where)
print("a time limit ends the sweep resumably")
