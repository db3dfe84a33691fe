"""lvsweep check: a whole folder passes; damage is found and named; what a resume would do, and why. A run goes on from a
torn journal and not from a damaged one; readers say which."""
import os
import re
import shutil
import signal
import subprocess
import time

import harness


def check(*words, expect=0):
    done = harness.run(0, "check", *words, expect=expect)
    return done.stdout + done.stderr


def damaged(path, change, cause):
    """The folder with one file changed must fail with `cause`; the file is put back."""
    before = path.read_bytes()
    path.write_bytes(change(before))
    said = check(output, expect=5)
    assert cause in said, (path, said)
    path.write_bytes(before)


def damaged_end(ini, *sets):
    """A byte of the last line, of the end of the sweep or of a trial: no run, a line of warning from readers, and the way
    on that the message names, to the same results."""
    path = output / "journal.jsonl"
    whole, results = path.read_bytes(), harness.numbers(output)
    settled = whole[:whole.index(b"\n", whole.rindex(b'"e":"settle"')) + 1]
    for journal, at in [(whole, -30), (whole, -1), (settled, settled.rindex(b"\n", 0, -1) + 1), (settled, -30)]:
        path.write_bytes(flip(at % len(journal))(journal))
        before = harness.fingerprint(output)
        for words in (["watch", output, "--once"], ["report", output, "-o", where / "report.html"],
                      ["export", output, "--csv"], ["plan", ini, *sets]):
            said = harness.run(0, *words).stderr
            assert said.count("\n") == 1 and "does not match its checksum and is left out here" in said, (words, said)
        assert "damaged at line" in harness.run(0, "watch", output, "--once").stdout
        said = harness.run(0, ini, *sets, expect=5).stderr
        assert "was no torn write" in said and harness.fingerprint(output) == before, said
        cure = re.search(r"sed -i '\d+,\$d' \S+", said).group(0)
        assert cure in check(output, expect=5)
        subprocess.run(cure, shell=True, check=True)
        harness.run(0, ini, *sets)
        assert harness.numbers(output) == results
        path.write_bytes(whole)
    path.write_bytes(whole[:-30])  # torn: nobody is worried, a run cuts it off
    for words in ["watch", output, "--once"], ["report", output, "-o", where / "report.html"]:
        assert harness.run(0, *words).stderr == "", words
    assert "a torn end was cut off" in harness.run(0, ini, *sets).stderr
    path.write_bytes(whole)


def flip(at):
    return lambda data: data[:at] + bytes([data[at] ^ 1]) + data[at + 1:]


where = harness.folder()
try:
    ini = harness.tiny_sweep(where, rank="2, 8", learning_rate="1e-3", context="64")
    few = ["--set", "run.threads=1"]
    said = check(ini, *few)
    assert "2 to run" in said and "follows from the best" in said and "no problem found" in said, said
    assert not (where / "tiny.lvsweep").exists(), "check writes nothing"
    harness.run(0, ini, *few)
    output = where / "tiny.lvsweep"
    before = harness.fingerprint(output)

    said = check(output)
    assert "nothing to do" in said and "3 finished trials read" in said and "no problem found" in said, said
    os.chdir("/")
    assert check(output) == said, "from any folder"
    assert harness.fingerprint(output) == before, "check writes nothing"

    # Damage.
    trials = sorted((output / "trials").iterdir())
    first, last = trials[0], trials[-1]
    damaged(first / "curves.bin", flip(200), "curves.bin")
    damaged(first / "forecast.bin", flip(300), "forecast.bin")
    damaged(output / "results.h5", lambda data: b"not" + data[3:], "results.h5")
    journal = (output / "journal.jsonl").read_bytes()
    ends = [at for at, byte in enumerate(journal) if byte == ord("\n")]
    for at in (0, len(journal) // 2, ends[0], ends[len(ends) // 2], ends[-2], ends[-2] + 1, ends[-1] - 1, ends[-1]):
        damaged(output / "journal.jsonl", flip(at), "does not match its checksum")
    damaged(first / "adapter/adapter_model.safetensors", lambda data: data[:-4] + b"\0\0\xc0\x7f", "no numbers")
    damaged(first / "adapter/adapter_model.safetensors", lambda data: data[:-4], "adapter_model")
    damaged(first / "adapter/lvsweep.json", lambda data: (last / "adapter/lvsweep.json").read_bytes(), "the journal has")
    damaged(first / "curves.bin", lambda data: (last / "curves.bin").read_bytes(), "curves.bin")
    shutil.move(first / "adapter", where / "aside")
    assert first.name in check(output, expect=5)
    shutil.move(where / "aside", first / "adapter")
    assert "no problem found" in check(output)

    damaged_end(ini, *few)

    # A torn last line is no problem: a writer may be at work.
    with open(output / "journal.jsonl", "ab") as journal:
        journal.write(b'{"n":99,"t":1.5,"e":"se')
    said = check(output)
    assert "half a line" in said and "no problem found" in said, said

    # What a changed INI would run, and which key differs.
    said = check(ini, *few, "--set", "stage.search.rank=2, 4, 8")
    assert "1 to run, 2 kept" in said and "rank: " in said and "-> 4" in said, said
    said = check(ini, *few, "--set", "stage.final.steps=30")
    assert "1 to run, 2 kept" in said and "steps: 10 -> 30" in said, said
    said = check(ini, *few, "--set", "evaluate.horizon=6")
    assert "evaluation only" in said and "horizon: 5 -> 6" in said, said
    harness.run(0, "simulate", "--force", "-o", where / "data.h5", "--systems", "24", "--seed", "4")
    said = check(ini, *few)
    assert "changed   data" in said and "2 to run, 0 kept" in said, said
    harness.run(0, "simulate", "--force", "-o", where / "data.h5", "--systems", "24", "--seed", "3")

    # Refusals.
    assert "did you mean" in check(ini, "--set", "train.bach=4", expect=2)
    assert "whole stage" in check(ini, *few, "--set", "budget.flops=1e6", "--output", where / "other", expect=4)
    assert "journal" in check(where, expect=5)
    assert "INI" in check(output, "--set", "train.batch=4", expect=2)

    # Killed while it trains: where it stopped, and from which checkpoint it goes on.
    words = ["--output", where / "killed", "--set", "run.checkpoint_every=0.1s", "--set", "stage.search.steps=4000"]
    running = harness.start(0, ini, *few, *words)
    deadline = time.time() + 120
    while not list(where.glob("killed/trials/*/checkpoint.[01]")) and time.time() < deadline:
        time.sleep(0.05)
    running.send_signal(signal.SIGKILL)
    running.wait()
    said = check(where / "killed")
    assert "running when the sweep ended, goes on from its checkpoint at step" in said, said
    print("check: whole folders pass, 9 kinds of damage are named, reasons of a resume as stated")
finally:
    harness.clean(where)
