"""Stop with USR1 in the middle: exit 75; the same command goes on and ends as an undisturbed sweep; once finished, the
command changes no byte. [budget] trials counts what a killed run began."""
import json
import os
import signal
import time

import harness

where = harness.folder()
ini = harness.tiny_sweep(where, steps="60", final="80")
harness.run(3, ini, "--output", where / "whole")
expected = harness.numbers(where / "whole")

output = where / "stopped"
process = harness.start(3, ini, "--output", output)
journal = output / "journal.jsonl"
deadline = time.time() + 60
while time.time() < deadline and not (journal.exists() and '"assigned"' in journal.read_text()):
    time.sleep(0.05)
time.sleep(1.0)
process.send_signal(signal.SIGUSR1)
out, err = process.communicate(timeout=120)
assert process.returncode in (75, 0), (process.returncode, out, err)
print(f"stopped with {process.returncode}")
if process.returncode == 75:
    harness.run(3, ini, "--output", output)
got = harness.numbers(output)
for before, after in zip(expected, got):
    for key in before:
        if key in ("flops_executed", "error"):
            continue
        assert before[key] == after[key], f"{key}: {before[key]} != {after[key]}"
assert len(expected) == len(got)

before = harness.fingerprint(output)
harness.run(3, ini, "--output", output)
assert harness.fingerprint(output) == before, "a finished sweep was changed"
print("a finished sweep changes no byte")

ini = where / "five.ini"
ini.write_text(harness.FAKE_INI.format(fake="step:0.01") + "[budget]\ntrials = 5\nover = skip\n")
harness.run(3, ini, "--output", where / "five")
expected = harness.numbers(where / "five")
assert [row["status"] for row in expected] == ["done"] * 5 + ["cut"] * 5, expected
output = where / "five-killed"
process = harness.start(3, ini, "--output", output)
journal = output / "journal.jsonl"
deadline = time.time() + 60
while time.time() < deadline and not (journal.exists() and journal.read_text().count('"e":"settle"') >= 2):
    time.sleep(0.01)
os.kill(process.pid, signal.SIGKILL)
process.communicate(timeout=60)
time.sleep(1)
document = json.loads(harness.run(0, "plan", ini, "--output", output, "--json").stdout)
planned = {row["trial"] for row in document["trials"] if row["verdict"] in ("run", "kept")}
assert planned == {row["name"] for row in expected if row["status"] == "done"}, document
harness.run(3, ini, "--output", output, "--break-lock")
assert [(row["name"], row["status"], row["val_loss"]) for row in harness.numbers(output)] == \
    [(row["name"], row["status"], row["val_loss"]) for row in expected], harness.numbers(output)
before = harness.fingerprint(output)
harness.run(3, ini, "--output", output)
assert harness.fingerprint(output) == before, "a finished sweep began more trials"
print("[budget] trials: killed and resumed, the same five")

# A wider first stage, stopped in the middle: nobody knows yet that the later stage has changed.
ini.write_text(harness.FAKE_INI.format(fake="none"))
output = where / "wider"
harness.run(0, ini, "--output", output)
best = harness.run(0, "best", output).stdout
wider = [ini, "--output", output, "--set", "stage.search.rank=2, 4, 8, 16", "--set", "run.fake=step:0.1"]
process = harness.start(0, *wider)
deadline = time.time() + 60
while time.time() < deadline and (output / "journal.jsonl").read_text().count('"e":"sweep"') < 2:
    time.sleep(0.02)
process.send_signal(signal.SIGUSR1)
assert process.wait(timeout=60) == 75, process.communicate()
assert [row["status"] for row in harness.table(output)[:10]] == ["done"] * 10, harness.table(output)
assert harness.run(0, "best", output).stdout == best
harness.run(0, *wider[:-1], "run.fake=none")
assert [row["status"] for row in harness.table(output)] == ["done"] * 13, harness.table(output)
harness.run(0, ini, "--output", output, "--set", "stage.search.rank=2, 4")
assert [row["status"] for row in harness.table(output)].count("superseded") == 7, harness.table(output)
print("stopped before a later stage: its trials are what they were")
harness.clean(where)
