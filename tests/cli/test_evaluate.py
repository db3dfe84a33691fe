"""lvsweep evaluate: a further evaluation of a finished trial, without training and without harm to the sweep."""
import json

import harness


def evaluate(*words, expect=0):
    done = harness.run(0, "evaluate", *words, expect=expect)
    return done.stdout + done.stderr


where = harness.folder()
try:
    ini = harness.tiny_sweep(where, rank="2, 8", learning_rate="1e-3", context="64")
    sets = ["--set", "run.threads=1", "--set", "evaluate.samples=1"]
    output = where / "tiny.lvsweep"
    more = ["--set", "evaluate.samples=4", "--set", "evaluate.decoding=sample"]

    # An unfinished sweep would go on: refused.
    harness.run(0, ini, *sets)
    changed = where / "changed.lvsweep"
    harness.run(0, ini, *sets, "--output", changed, "--set", "stage.final.steps=12")
    before = harness.table(output)
    adapters = harness.fingerprint(output / "trials" / before[0]["name"] / "adapter")
    best = harness.run(0, "best", output).stdout

    said = evaluate(output, *more)
    rows = harness.table(output)
    assert len(rows) == len(before) + 1, said
    new = rows[-1]
    chosen = [row for row in before if row["name"] == new["name"]][0]
    assert new["status"] == "done" and new["samples"] == "4" and new["train_key"] == chosen["train_key"]
    assert new["eval_key"] != chosen["eval_key"]
    assert new["val_loss"] == chosen["val_loss"], "the same weights, the same loss"
    assert float(new["flops_training"]) == 0 and float(new["val_crps"]) > 0, new
    timing = harness.TIMING
    for old, now in zip(before, rows):
        differ = {k: (old[k], now[k]) for k in old if k not in timing and old[k] != now.get(k)}
        assert not differ, differ
    assert harness.run(0, "best", output).stdout == best
    assert harness.fingerprint(output / "trials" / before[0]["name"] / "adapter") == adapters

    # Again: nothing; another trial by name: the best stays the best; the plain sweep is still finished.
    mark = (output / "journal.jsonl").read_bytes()
    assert "there already" in evaluate(output, *more)
    assert (output / "journal.jsonl").read_bytes() == mark
    harness.run(0, ini, *sets)
    assert (output / "journal.jsonl").read_bytes() == mark, "a finished sweep changes nothing"
    other = [row["name"] for row in before if row["name"] != new["name"]][0]
    evaluate(output, "--trial", other, "--set", "evaluate.horizon=3")
    assert len(harness.table(output)) == len(before) + 2
    assert harness.run(0, "best", output).stdout == best
    assert "no problem found" in harness.run(0, "check", output).stdout

    # A budget with no room for it, and more budget.
    counted = where / "counted.lvsweep"
    sets += ["--set", "budget.count=training+evaluation", "--set", "stage.search.rank=8"]
    planned = json.loads(harness.run(0, "plan", ini, *sets, "--output", counted, "--json").stdout)["trials"][-1]["flops_total"]
    harness.run(0, ini, *sets, "--output", counted, "--set", f"budget.flops={planned:.0f}")
    many = ["--set", "evaluate.samples=64", *more[2:]]
    assert "no room" in evaluate(counted, *many, expect=4)
    evaluate(counted, *many, "--set", f"budget.flops={10 * planned:.0f}")
    assert harness.table(counted)[-1]["samples"] == "64"

    # No time left, and more of it.
    mark = (output / "journal.jsonl").read_bytes()
    twice = ["--set", "evaluate.samples=2", *more[2:]]
    for key in "hours", "gpu_hours":
        said = evaluate(output, *twice, "--set", f"budget.{key}=1e-6", expect=4)
        assert f"[budget] {key} = 1e-06 is used up" in said, said
    assert (output / "journal.jsonl").read_bytes() == mark
    evaluate(output, *twice, "--set", "budget.hours=10", "--set", "budget.gpu_hours=10")
    assert harness.table(output)[-1]["samples"] == "2"

    # Refusals.
    for words, code, cause in [((output, "--set", "train.batch=2"), 2, "only [evaluate] keys"),
                               ((output, "--set", "evaluate.sample=2"), 2, "no key sample"),
                               ((output, "--set", "evaluate.samples=2,4"), 2, "one value"),
                               ((output, "--set", "evaluate.samples=none"), 2, "samples"),
                               ((output, "--set", "evaluate.history=20"), 2, "training it again"),
                               ((output, "--trial", "nobody", *more), 2, "nobody"),
                               ((output,), 2, "--set"),
                               ((where, *more), 5, "journal")]:
        assert cause in evaluate(*words, expect=code), words
    mark = (changed / "journal.jsonl").read_bytes()
    (where / "data.h5").rename(where / "moved.h5")
    assert "data.h5" in evaluate(changed, *more, expect=5)
    harness.run(0, "simulate", "-o", where / "data.h5", "--systems", "24", "--seed", "9")
    assert "not finished" in evaluate(changed, *more, expect=2)
    assert (changed / "journal.jsonl").read_bytes() == mark
    print("evaluate: rows added without training, repeated for nothing, refusals as stated")
finally:
    harness.clean(where)
