"""Stop with USR1 in the middle: exit 75; the same command goes on and ends as an undisturbed sweep; once finished, the
command changes no byte."""
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
harness.clean(where)
