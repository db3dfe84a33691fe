"""Ten thousand trials in one sweep: the memory and the open files of ranks and trainers at the end are those after the
first thousand. RANKS as argument (3)."""
import os
import pathlib
import sys
import time

import harness

MARK = "LVSWEEP_GROWTH_TEST"
TRIALS = 10000
INI = f"""
[stage.search]
rank = 1, 2, 3, 4, 5, 6, 7, 8, 9, 10
learning_rate = {", ".join(f"{i}e-5" for i in range(1, 11))}
seed = {", ".join(str(i) for i in range(TRIALS // 100))}
steps = 20
[budget]
flops = none
[run]
runner = fake
fake = loss:0.3
[evaluate]
loss = yes
"""


def processes(token):
    """(kB of private memory asked of the system, open files) of every lvsweep of this sweep by process id."""
    found = {}
    for entry in pathlib.Path("/proc").iterdir():
        try:
            if not entry.name.isdigit() or f"{MARK}={token}".encode() not in (entry / "environ").read_bytes():
                continue
            if (entry / "comm").read_text().strip() not in ("lvsweep", "exe"):
                continue
            memory = [line.split()[1] for line in (entry / "status").read_text().splitlines() if "VmData" in line]
            if memory:
                found[int(entry.name)] = int(memory[0]), len(list((entry / "fd").iterdir()))
        except OSError:
            continue
    return found


def settled(journal):
    """Counts finished trials as the journal grows."""
    while not journal.exists():
        time.sleep(0.05)
    count, rest = 0, b""
    with open(journal, "rb") as file:
        while True:
            lines = (rest + file.read()).split(b"\n")
            rest = lines.pop()
            count += sum(b'"e":"settle"' in line[:96] for line in lines)
            yield count
            time.sleep(0.05)


ranks = int(sys.argv[1]) if len(sys.argv) > 1 else 3
where = harness.folder()
ini, output, token = where / "many.ini", where / "out", str(os.getpid())
ini.write_text(INI)
began = time.time()
process = harness.start(ranks, ini, "--output", output, environment={MARK: token})
early = late = None
for count in settled(output / "journal.jsonl"):
    if early is None and count >= TRIALS // 10:
        early = processes(token)
    if count >= TRIALS * 97 // 100:
        late = processes(token)
        break
    if process.poll() is not None:
        break
out, err = process.communicate(timeout=600)
assert process.returncode == 0 and early and late, (process.returncode, out[-500:], err[-2000:])
assert set(early) == set(late), "a process was replaced"
for pid in sorted(early):
    print(f"process {pid}: {early[pid][0]} -> {late[pid][0]} kB, {early[pid][1]} -> {late[pid][1]} files")
    assert late[pid][1] <= early[pid][1] + 1, "open files grow"
    assert late[pid][0] <= early[pid][0] * 1.05 + 2048, "memory grows"
rows = harness.table(output)
assert len(rows) == TRIALS, len(rows)
print(f"{TRIALS} trials on {ranks} ranks in {time.time() - began:.0f} s: no growth")
harness.clean(where)
