"""The output folder: one sweep at a time works in it, and --fresh keeps what a running one has."""
import os
import signal
import time

import harness

where = harness.folder()
ini = where / "fake.ini"
ini.write_text(harness.FAKE_INI.format(fake="step:0.2"))
output = where / "out"


def folders():
    return sorted(p.name for p in where.iterdir() if p.is_dir())


process = harness.start(0, ini, "--output", output)
journal = output / "journal.jsonl"
deadline = time.time() + 60
while time.time() < deadline and not (journal.exists() and '"e":"assigned"' in journal.read_text()):
    time.sleep(0.01)
lock, inode = (output / "lock").read_text(), output.stat().st_ino
for words in ([], ["--fresh"], ["--fresh", "--retry-failed"]):
    said = harness.run(0, ini, "--output", output, *words, expect=6).stderr
    assert "another lvsweep works on this output" in said and f"pid {process.pid}" in said, said
    assert process.poll() is None, "the running sweep was disturbed"
    assert folders() == ["out"] and output.stat().st_ino == inode and (output / "lock").read_text() == lock
process.send_signal(signal.SIGUSR1)
process.communicate(timeout=60)
assert process.returncode == 75, process.returncode
print("--fresh and a running sweep: exit 6, nothing is touched")

# The same once nobody works there; the old folder keeps its results and no lock.
before = journal.read_bytes()
said = harness.run(0, ini, "--output", output, "--fresh", "--set", "run.fake=").stderr
assert "the old folder is now" in said, said
old = [name for name in folders() if name != "out"]
assert len(old) == 1 and (where / old[0] / "journal.jsonl").read_bytes() == before, folders()
for folder in (output, where / old[0]):
    assert not [p.name for p in folder.iterdir() if p.name.startswith("lock")], folder
assert all(row["status"] == "done" for row in harness.table(output))
assert os.path.exists(output / "results.h5")

# A killed sweep is no running one.
process = harness.start(0, ini, "--output", where / "killed")
journal = where / "killed/journal.jsonl"
while time.time() < deadline and not (journal.exists() and '"e":"assigned"' in journal.read_text()):
    time.sleep(0.01)
process.kill()
process.communicate(timeout=60)
harness.run(0, ini, "--output", where / "killed", "--fresh", "--set", "run.fake=")
print("--fresh and nobody there: renamed, no lock is left")

# A folder of something else is neither filled nor renamed; logs and an INI may be there before the sweep.
foreign = where / "foreign"
foreign.mkdir()
(foreign / "config.json").write_text("{}")
for words in ([], ["--fresh"], ["--break-lock"]):
    said = harness.run(0, ini, "--output", foreign, *words, expect=6).stderr
    assert "is not the folder of a sweep" in said and "(config.json)" in said, said
    assert [p.name for p in foreign.iterdir()] == ["config.json"] and "foreign" in folders()
logs = where / "logs"
logs.mkdir()
for name in ("lvsweep-12.log", "grid.ini", ".directory", "lock.new.1"):
    (logs / name).write_text("x")
said = harness.run(0, ini, "--output", logs, "--set", "run.fake=").stdout
assert " 1 CPU rank, " in said, said
print("folders of something else: exit 6")
harness.clean(where)
