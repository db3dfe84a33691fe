"""The same sweep on 1, 2, 3 and 5 ranks, and with 1 or 2 threads, gives equal bits in every column that is not a time
or the like. Those that are: memory is measured, and the provenance of a worker says nothing twice."""
import json
import os

import harness

MACHINE_BYTES = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def worker_lines(output):
    events = map(json.loads, (output / "journal.jsonl").read_text().splitlines())
    return [event["text"] for event in events if event["e"] == "provenance" and event["name"].startswith("worker_")]


where = harness.folder()
ini = harness.tiny_sweep(where)
expected = None
for ranks, threads in ((0, 1), (2, 1), (3, 2), (5, 1)):
    output = where / f"out-{ranks}-{threads}"
    harness.run(ranks, ini, "--output", output, "--set", f"run.threads={threads}")
    got = harness.numbers(output)
    assert len(got) == 5 and all(row["status"] in ("2", "done") for row in got), got
    memory = [float(row["peak_memory"] or "nan") for row in harness.table(output)]
    assert all(1e7 < bytes_held < MACHINE_BYTES for bytes_held in memory), memory
    lines = worker_lines(output)
    assert len(lines) == max(ranks - 1, 1) and all(line.startswith(os.uname().nodename + "; ") for line in lines), lines
    assert all(len(set(line.split("; "))) == len(line.split("; ")) for line in lines), lines
    if expected is None:
        expected = got
    for before, after in zip(expected, got):
        for key in before:
            assert before[key] == after[key], f"{ranks} ranks, {threads} threads: {key}: {before[key]} != {after[key]}"
    print(f"{ranks or 1} ranks, {threads} threads: {len(got)} equal rows")
harness.clean(where)
