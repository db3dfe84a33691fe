"""--rerun: one trial from nothing, in a race too. Its numbers and everybody else's are what they were, it is charged once
more, and a kill in the middle loses nothing. What cannot be run again is refused before anything changes."""
import os
import signal
import time

import harness
from harness import RACE_INI, assert_equal, rungs

AGAIN = {"flops_counted", "budget_percent", "flops_executed"}


def rerun(ini, output, name, *more, ranks=0, expect=0):
    return harness.run(ranks, ini, "--output", output, "--rerun", name, *more, expect=expect)


def one(rows, **wanted):
    return next(row for row in rows if all(row[key] == value for key, value in wanted.items()))


def refused(ini, output, name, words, *more, expect=2):
    before = harness.fingerprint(output)
    said = rerun(ini, output, name, *more, expect=expect).stderr
    assert words in said and "Nothing was started" in said, said
    assert harness.fingerprint(output) == before, "a refusal changed the folder"


where = harness.folder()
ini = where / "fake.ini"
ini.write_text(RACE_INI.format(fake="loss:0.3", rule="halving"))
output = where / "race"
harness.run(0, ini, "--output", output)
expected, decided = harness.numbers(output), rungs(output)
for number, wanted in enumerate([{"status": "done"}, {"stopped_at_step": "30"}, {"stopped_at_step": "10"}]):
    row = one(expected, **wanted)
    rerun(ini, output, row["name"] if number else row["train_key"][:12], ranks=3 * (number == 1))
    got = harness.numbers(output)
    assert_equal(expected, got, AGAIN)
    charged = {after["name"]: int(after["flops_counted"]) - int(before["flops_counted"])
               for before, after in zip(expected, got)}
    assert charged.pop(row["name"]) == int(row["flops_training"]) and not any(charged.values()), (row, charged)
    assert rungs(output) == sorted(decided + [r for r in decided if r[0] == int(row["trial"])]), rungs(output)
    assert "no problem found" in harness.run(0, "check", output).stdout
    expected, decided = got, rungs(output)
print("a survivor and two stopped trials: equal numbers and decisions, charged once more")

row = one(expected, status="done")
refused(ini, output, "nobody", "no trial")
ambiguous = next(key for key in "0123456789abcdef" if sum(r["train_key"].startswith(key) for r in expected) > 1)
refused(ini, output, ambiguous, "fits")
refused(ini, output, row["name"], "not in the present grid", "--set", "stage.search.rank=2, 4")
spent = sum(int(r["flops_counted"]) for r in expected)
refused(ini, output, row["name"], "does not pay", "--set", f"budget.flops={spent + int(row['flops_training']) - 1}",
        expect=4)
rerun(ini, output, row["name"], "--set", f"budget.flops={spent + int(row['flops_training'])}")
assert_equal(expected, harness.numbers(output), AGAIN)
print("unknown, ambiguous, foreign and unaffordable trials are refused; what just fits runs")

# Two trials with equal losses: the one that trains with fewer FLOPs is the best for the sweep and for its readers, although
# it was paid for twice.
tie = where / "tie.ini"
tie.write_text("[stage.search]\nrank = 16, 4\nsteps = 20\n[stage.final]\nfrom = best\nsteps = 30\nlearning_rate = 1e-3\n"
               "[run]\nrunner = fake\nfake = none\n[sweep]\nstages = search\n")
output = where / "tie"
harness.run(0, tie, "--output", output)
dear, cheap = harness.numbers(output)
assert dear["val_loss"] == cheap["val_loss"] and int(dear["flops_training"]) > int(cheap["flops_training"]), (dear, cheap)
for again in False, True:
    if again:
        rerun(tie, output, cheap["name"])
        assert int(harness.numbers(output)[1]["flops_counted"]) > int(dear["flops_counted"])
    assert os.readlink(output / "best") == "trials/" + cheap["name"]
    assert harness.run(0, "best", output).stdout.split()[0] == cheap["name"]
harness.run(0, tie, "--output", output, "--set", "sweep.stages=search+final")
assert harness.numbers(output)[2]["lora_rank"] == "4", harness.numbers(output)
print("an exact tie: one best, before and after a rerun")

killed = where / "killed"
slow = where / "slow.ini"
slow.write_text(RACE_INI.format(fake="step:4e-3+loss:0.3", rule="halving"))
harness.run(3, slow, "--output", killed)
before = harness.numbers(killed)
journal = killed / "journal.jsonl"
lines = len(journal.read_text().splitlines())
row = one(before, stopped_at_step="30")
process = harness.start(2, slow, "--output", killed, "--rerun", row["name"])
deadline = time.time() + 60
while time.time() < deadline and '"e":"rung"' not in "".join(journal.read_text().splitlines()[lines:]):
    time.sleep(0.01)
os.kill(process.pid, signal.SIGKILL)
process.communicate(timeout=60)
time.sleep(1)
harness.run(2, slow, "--output", killed, "--break-lock")
assert_equal(before, harness.numbers(killed), AGAIN | {"flops_lost", "error"})
assert "no problem found" in harness.run(0, "check", killed).stdout
print("killed after its first rung and resumed without --rerun: equal numbers, exact ledger")

# The best trial failed before any rung: run again it takes a place from another, and that is told.
fails = where / "fails.ini"
fails.write_text(RACE_INI.format(fake="loss:0.3+fail:8:error:0", rule="halving"))
harness.run(0, fails, "--output", where / "fails", expect=3)
before = rungs(where / "fails")
said = rerun(ini, where / "fails", one(harness.numbers(where / "fails"), status="failed")["name"]).stderr
turned = [r for r in rungs(where / "fails") if r[0] != 8 and r not in before]
assert turned and said.count("an earlier run decided otherwise") == len(turned), (turned, said)
print(f"{len(turned)} decisions about other trials changed, each with a line")

wide = where / "wide.ini"
wide.write_text("[stage.search]\nrank = 2, 4\nbatch = 2, 4\noptimizer = adam, adamw\nsteps = 20\n"
                "[run]\nrunner = fake\nfake = none\n")
harness.run(0, wide, "--output", where / "wide")
row = harness.numbers(where / "wide")[3]
assert len(row["name"]) > 40, row
rerun(wide, where / "wide", row["name"])
assert int(harness.numbers(where / "wide")[3]["flops_counted"]) == 2 * int(row["flops_counted"])

tiny = harness.tiny_sweep(where, steps="18", final="6")
stop = ["--set", "stop.rule=halving", "--set", "stop.min_steps=2"]
output = where / "tiny"
harness.run(0, tiny, "--output", output, *stop)
expected = harness.numbers(output)
for wanted in {"status": "stopped"}, {"status": "done", "n_rungs": "2"}:
    row = one(expected, **wanted)
    curves = output / "trials" / row["name"] / "curves.bin"
    whole = curves.read_bytes()
    curves.write_bytes(whole[:-9])
    said = rerun(tiny, output, row["name"], *stop).stderr
    restored = [line for line in said.splitlines() if "goes on from its checkpoint" in line]
    assert len(restored) == int(row["n_rungs"]) - (row["status"] == "stopped"), said
    assert_equal(expected, harness.numbers(output), AGAIN)
    assert curves.read_bytes() == whole
    assert "no problem found" in harness.run(0, "check", output).stdout
    expected = harness.numbers(output)
harness.clean(where)
print("the tiny model: damaged curves are made again, from step 0, with the same bits")
