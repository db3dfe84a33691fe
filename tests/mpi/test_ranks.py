"""The same sweep on 1, 2, 3 and 5 ranks, and with 1 or 2 threads, gives equal bits in every column that is not a time."""
import harness

where = harness.folder()
ini = harness.tiny_sweep(where)
expected = None
for ranks, threads in ((0, 1), (2, 1), (3, 2), (5, 1)):
    output = where / f"out-{ranks}-{threads}"
    harness.run(ranks, ini, "--output", output, "--set", f"run.threads={threads}")
    got = harness.numbers(output)
    assert len(got) == 5 and all(row["status"] in ("2", "done") for row in got), got
    if expected is None:
        expected = got
    for before, after in zip(expected, got):
        for key in before:
            assert before[key] == after[key], f"{ranks} ranks, {threads} threads: {key}: {before[key]} != {after[key]}"
    print(f"{ranks or 1} ranks, {threads} threads: {len(got)} equal rows")
harness.clean(where)
