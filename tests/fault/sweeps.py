"""What the fault tests share: tiny sweeps, running them with a fault armed, and what must hold afterwards."""
import json
import os
import pathlib
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "mpi"))
import harness

# What a fault may change: how often something was tried and what that cost, never a result.
ATTEMPTS = {"attempt", "flops_lost", "flops_executed", "error", "pack_width"}

FAKE = """
[stage.search]
rank = 2, 4
learning_rate = 1e-4
steps = 20
[stage.final]
from = best
steps = 50
[budget]
flops = 1e13
[run]
runner = fake
fake = {fake}
threads = 1
retries = 3
[evaluate]
loss = yes
"""


def fake_ini(where, fake="loss:0.3", name="fake.ini"):
    ini = where / name
    ini.write_text(FAKE.format(fake=fake))
    return ini


def results(output):
    return [{key: value for key, value in row.items() if key not in ATTEMPTS} for row in harness.numbers(output)]


def events(output):
    with open(output / "journal.jsonl", encoding="utf-8") as journal:
        return [json.loads(line) for line in journal]


def ledger_faults(output):
    """Adds the journal's charges up again and compares them with the table's."""
    charged, reserved, cap, spent, lost, faults = {}, {}, 0, 0, 0, []
    for event in events(output):
        kind, index = event["e"], event.get("i", event.get("index"))
        if kind == "sweep":
            cap = event["sweep"].get("flops_cap") or 0
            reserved.clear()
        elif kind == "admitted":
            reserved[index] = reserved.get(index, 0) + event["flops"]
            if cap and spent + sum(reserved.values()) > cap:
                faults.append(f"line {event['n']} passes the cap")
        elif kind == "settle":
            if event["flops"] > reserved.pop(index, 0):
                faults.append(f"line {event['n']} charges more than was reserved")
            charged[index] = charged.get(index, 0) + event["flops"]
            spent += event["flops"]
            lost += event.get("lost", 0)
    rows = harness.table(output)
    for index, row in enumerate(rows):
        if int(row["flops_counted"]) != charged.get(index, 0):
            faults.append(f"trial {index}: {row['flops_counted']} in the table, {charged.get(index, 0)} in the journal")
    told = sum(int(row["flops_lost"] or 0) for row in rows)
    if told != lost:
        faults.append(f"{told} FLOPs lost in the table, {lost} in the journal")
    if reserved:
        faults.append(f"reserved for ever: {reserved}")
    return faults


def differences(expected, output):
    """Why the sweep in `output` is not what an undisturbed one leaves; empty when it is."""
    got = results(output)
    faults = ledger_faults(output)
    if len(got) != len(expected):
        faults.append(f"{len(got)} rows, not {len(expected)}")
    for before, after in zip(expected, got):
        faults += [f"{before['name']}: {key}: {after[key]} instead of {before[key]}"
                   for key in before if before[key] != after[key]]
    if not (output / "results.h5").exists():
        faults.append("no results.h5")
    left = [p.name for p in output.iterdir() if p.name == "lock" or ".new" in p.name]
    if left:
        faults.append(f"left behind: {left}")
    return faults


def run(ranks, arguments, environment=None, timeout=60):
    """(exit code, text); the code is None when it did not end, and then everything of it is killed."""
    process = subprocess.Popen(harness.command(ranks, *arguments), env=dict(harness.ENVIRONMENT, **(environment or {})),
                               text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        text, _ = process.communicate(timeout=timeout)
        return process.returncode, text
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        text, _ = process.communicate()
        return None, text
