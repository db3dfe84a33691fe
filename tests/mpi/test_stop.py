"""Early stopping: the same trials stopped on 1, 2 and 3 ranks, in packs, with dying trainers, and after kills in the
middle; a trial that is never stopped gives the bits of one that nobody could have stopped."""
import os
import signal
import time

import harness
from harness import RACE_INI, assert_equal, rungs


def fake(where, output, ranks, fake="loss:0.3", rule="halving", expect=0):
    ini = where / "fake.ini"
    ini.write_text(RACE_INI.format(fake=fake, rule=rule))
    harness.run(ranks, ini, "--output", where / output, expect=expect)
    return harness.numbers(where / output)


where = harness.folder()
expected = fake(where, "one", 0)
assert [row["status"] for row in expected].count("stopped") == 8, expected
assert sorted(row["stopped_at_step"] for row in expected if row["status"] == "stopped") == ["10"] * 6 + ["30"] * 2
assert_equal(expected, fake(where, "three", 3))
assert_equal(expected, fake(where, "dying", 3, "step:1e-4+loss:0.3+fail:1:kill+fail:4:exit+fail:8:kill:2"),
             {"flops_lost", "error"})
assert rungs(where / "one") == rungs(where / "three") == rungs(where / "dying")
print("1 and 3 ranks, dying trainers: equal decisions")

expected_rungs = rungs(where / "one")
for after in (2, 11):
    ini = where / "fake.ini"
    ini.write_text(RACE_INI.format(fake="step:4e-3+loss:0.3", rule="halving"))
    output = where / f"killed-{after}"
    process = harness.start(3, ini, "--output", output)
    journal = output / "journal.jsonl"
    deadline = time.time() + 60
    while time.time() < deadline and not (journal.exists() and journal.read_text().count('"e":"rung"') >= after):
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    time.sleep(1)
    harness.run(3, ini, "--output", output, "--break-lock")
    assert_equal(expected, harness.numbers(output), {"flops_lost", "error"})
    assert rungs(output) == expected_rungs
    harness.run(0, "check", output)
print("mpirun killed in the middle of the race, resumed: equal decisions, exact ledger")

for rule in ("asha", "median"):
    rows = fake(where, rule, 3, rule=rule)
    assert all(row["status"] in ("done", "stopped") for row in rows), rows
    assert any(row["status"] == "stopped" for row in rows), rows
    harness.run(0, "check", where / rule)
print("asha and median end")

ini = harness.tiny_sweep(where, steps="18", final="6")
harness.run(0, ini, "--output", where / "plain")
stop = ["--set", "stop.rule=halving", "--set", "stop.min_steps=2"]
harness.run(0, ini, "--output", where / "halved", *stop)
harness.run(3, ini, "--output", where / "packed", *stop, "--set", "run.pack=2")
plain, halved = harness.numbers(where / "plain"), harness.numbers(where / "halved")
assert_equal(halved, harness.numbers(where / "packed"), {"pack_width"})
best = {row["train_key"]: row for row in plain}
survivors = [row for row in halved if row["status"] == "done" and row["n_rungs"] != "0"]
assert len(survivors) == 1 and survivors[0]["n_rungs"] == "2", halved
RACE = {"trial", "n_rungs", "rung_step", "rung_loss", "flops_evaluation"}
assert_equal([best[survivors[0]["train_key"]]], survivors, RACE)
for row in halved:
    assert int(row["flops_training"]) % max(1, int(row["steps_done"])) == 0
harness.run(0, "check", where / "halved")
print("the tiny model: a survivor's numbers are those of a plain trial")

# A record that is lost after its checkpoint was written, and one whose checkpoint is gone: what was evaluated counts once.
# The survivor is the first trial, which measures the baseline.
ini = harness.tiny_sweep(where, rank="8, 2", learning_rate="1e-3, 1e-4", steps="18", final="6")
for every in "none", "2":
    words = [ini, *stop, "--set", f"evaluate.every={every}", "--set", "budget.count=training+evaluation"]
    harness.run(0, *words, "--output", where / f"whole-{every}")
    expected = harness.numbers(where / f"whole-{every}")
    assert expected[0]["status"] == "done" and expected[0]["n_rungs"] == "2", expected
    for fault in "trainer_record:1:kill", "event_record:5:kill", "event_record:7:kill":
        output = where / f"fault-{every}"
        said = harness.run(0, *words, "--output", output, environment={"LVSWEEP_FAULT": fault}, expect=None).stderr
        assert "fault: " + fault[:-7] in said, said
        harness.run(0, *words, "--output", output)
        assert_equal(expected, harness.numbers(output), {"flops_lost", "flops_executed", "error"})
        assert "no problem found" in harness.run(0, "check", output).stdout
        harness.clean(output)
print("records lost at and after rungs: equal FLOPs of evaluation, equal charges")
harness.clean(where)
