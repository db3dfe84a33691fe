"""[run] head_rows = text: steps over the text's rows of the head, what the others would have added, measured and said."""
import harness


def sweep(where, output, *sets):
    words = ["--output", where / output, *(word for item in sets for word in ("--set", item))]
    done = harness.run(0, ini, *words, "--set", "evaluate.every=5")
    return done.stderr, harness.numbers(where / output)


def gaps(row):
    return [row[name] for name in ("head_gap_first", "head_gap_last", "head_gap_largest")]


where = harness.folder()
try:
    ini = harness.tiny_sweep(where, rank="2", learning_rate="1e-3", steps="1", final="10")
    said, rows = sweep(where, "text", "run.head_rows=text", "lora.head=bias")
    _, whole = sweep(where, "all", "lora.head=bias")
    for row, other in zip(rows, whole):
        first, last, largest = map(float, gaps(row))
        assert 0 < first < largest and 0 < last < largest < 1, row
        assert gaps(other) == ["", "", ""]
        # The rows left out hardly matter to this model, and they matter: other numbers, another key.
        assert row["train_key"] != other["train_key"] and row["val_loss"] != other["val_loss"]
        assert abs(float(row["val_loss"]) - float(other["val_loss"])) < 0.01
        assert row["flops_counted"] == other["flops_counted"], "a head restricted at run time changes no price"
    # Of one step, the training losses differ by what was measured at it.
    left_out = float(whole[0]["train_loss_last"]) - float(rows[0]["train_loss_last"])
    assert abs(left_out - float(rows[0]["head_gap_first"])) < 1e-6, (left_out, rows[0])
    for step in (0, 1, 5, 10):
        assert f"head_rows = text: at step {step} the loss over all rows of the head is" in said, said

    # The head's weight itself.
    _, weight = sweep(where, "weight", "run.head_rows=text", "lora.head=weight", "stage.final.steps=2")
    assert all(row["status"] == "done" and float(row["head_gap_first"]) > 0 for row in weight), weight
    # The adapter is a whole one: forecasts and further evaluations need no restriction.
    harness.run(0, "forecast", where / "text", "--data", where / "data.h5", "--horizon", "2", "--samples", "1",
                "--threads", "1", "-o", where / "out.csv")
    harness.run(0, "evaluate", where / "text", "--set", "evaluate.samples=2", "--set", "evaluate.decoding=sample")
    # With vocabulary = text there are no other rows.
    _, gathered = sweep(where, "gathered", "run.head_rows=text", "model.vocabulary=text", "stage.final.steps=2")
    assert all(gaps(row) == ["", "", ""] for row in gathered), gathered
    # An exported head lies beside the adapter, where others do not look for it: said; a frozen one is none.
    for name in ("all", "weight", "gathered"):
        said = harness.run(0, "export", where / name, "--adapter", "best", "-o", where / f"{name}-adapter").stderr
        assert ("the trained head lies in head.safetensors" in said) == (name != "gathered"), (name, said)
        assert (where / f"{name}-adapter/head.safetensors").exists() == (name != "gathered")
    print("head_rows = text: measured and said; whole adapters come out")
finally:
    harness.clean(where)
