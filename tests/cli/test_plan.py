"""lvsweep plan: the INIs of sweeps/ on the shape of Qwen2.5-0.5B, all conventions side by side, the printed percentages
of the reports, and the price of generation. No weights are needed to plan."""
import json
import struct

import harness

CHARACTERS = {**{str(digit): 15 + digit for digit in range(10)}, ".": 13, ",": 11, ";": 26, "-": 12}
QUOTED = ["item 2b", "everything before the final run", "forecasts of the final run", "left over"]
NAMES = ["table1", "report_a", "report_b", "report_c"]


def write_model(folder):
    """config.json and ids of the real checkpoint; a weights' file without tensors."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({
        "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "hidden_act": "silu", "hidden_size": 896,
        "intermediate_size": 4864, "num_attention_heads": 14, "num_hidden_layers": 24, "num_key_value_heads": 2,
        "vocab_size": 151936, "max_position_embeddings": 32768, "rms_norm_eps": 1e-6, "rope_theta": 1000000.0,
        "tie_word_embeddings": True, "eos_token_id": 151645}))
    (folder / "tokenizer.json").write_text(json.dumps({
        "model": {"type": "BPE", "vocab": CHARACTERS, "merges": []},
        "added_tokens": [{"id": 151643, "content": "<|endoftext|>"}]}))
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", 8) + b"{}      ")


def plan(ini, *more):
    sets = ["--set", f"data.file={where / 'data.h5'}", "--set", f"model.path={where / 'half'}", *more]
    return json.loads(harness.run(0, "plan", harness.SOURCE / "sweeps" / ini, *sets, "--json").stdout), \
        harness.run(0, "plan", harness.SOURCE / "sweeps" / ini, *sets).stdout


def near(value, expected, share=1e-9):
    return abs(value - expected) <= share * abs(expected)


where = harness.folder()
try:
    write_model(where / "half")
    harness.run(0, "simulate", "-o", where / "data.h5", "--systems", "1000", "--seed", "1")

    # Trials, training FLOPs under the report's own convention in % of 1e17, printed rows: met, and trials of the plan.
    reports = {
        "a": (9, "report_a", 93.5902, "yyyyyyynnnn", [1] * 6 + [0] * 5),
        "a-nine": (12, "report_a", 105.751, "yyyyyyynnnn", [1] * 6 + [0] * 5),
        "b": (22, "report_b", 103.0221, "nyyyyn", [18, 1, 1, 1, 1, 22]),
        "c": (13, "report_c", 76.6465, "yyyyyyyy", [1, 1, 1, 1, 9, 3, 1, 13]),
        # 14 trials, and 3 of them on more series
        "d": (17, "table1", 143.976, "n", [1]),
    }
    for name, (trials, convention, training, met, found) in reports.items():
        document, text = plan(f"reproduce/report-{name}.ini")
        ran = [row for row in document["trials"] if row["verdict"] == "run"]
        assert len(ran) == trials, (name, len(ran))
        costs = {row["name"]: row for row in document["conventions"]}
        assert list(costs) == NAMES
        own = costs[convention]
        assert near(own["flops_training"] / 1e15, training, 1e-5), (name, own)
        assert near(own["flops_counted"], sum(row["flops_counted"] for row in ran)), name
        assert near(own["budget_percent"], 100 * own["flops_counted"] / document["flops_cap"])
        for row in costs.values():
            free = row["name"] in ("report_b", "report_c")
            assert (row["flops_evaluation"] == 0) == free, row
            assert near(row["flops_counted"], row["flops_training"] + (
                row["flops_evaluation"] if name[0] in "ad" else 0)), (name, row)
        printed = document["published"]
        assert {row["report"] for row in printed} == {name[0].upper()}, (name, printed)
        assert "".join("y" if row["met"] else "n" for row in printed) == met, name
        assert [row["plan_trials"] for row in printed] == found, (name, printed)
        assert [row["what"] for row in printed if row["formula_percent"] is None] == (QUOTED if name[0] == "a" else [])
        for row in printed:
            assert (row["plan_percent"] is None) == (row["plan_trials"] == 0)
            if convention in ("report_b", "report_c") and row["plan_trials"] == row["trials"] and row["what"][:4] != "5892" \
                    and row["what"] != "everything":
                assert near(row["plan_percent"], row["formula_percent"]), row
        assert "published (% of 1e17)" in text and "<- the budget's" in text, text
    document, text = plan("reproduce/report-b.ini")
    assert "+6.0 %" in text, "the printed share that B's formula does not give"
    assert document["trials"][-1]["steps"] == 5891, "a share of 35 % of 1e17 is spent"

    # The published cap shows what is cut.
    document, text = plan("reproduce/report-d.ini", "--set", "budget.flops=1e17", "--set", "budget.over=skip")
    assert any(row["verdict"] == "cut" for row in document["trials"]) and " cut" in text

    # The other examples.
    document, text = plan("grid-3x3x3.ini")
    assert [row["verdict"] for row in document["trials"]] == ["run"] * 28
    assert 0.99 < document["trials"][-1]["flops_total"] / 1e17 <= 1 and document["published"] == []
    assert "published" not in text
    document, text = plan("wide-grid.ini")
    assert len({row["trial"] for row in document["trials"]}) == 30 + 1 and "run from step 50" in text, text
    assert len(document["trials"]) == 30 + 10 + 4 + 1 and {row["verdict"] for row in document["trials"]} == {"run"}
    total = sum(row["flops_counted"] for row in document["trials"])
    assert 0.999e17 < total <= 1e17 and near(total, document["conventions"][1]["flops_counted"])
    document, _ = plan("wide-grid.ini", "--set", "stop.rule=none", "--set", "budget.over=skip")
    assert [row["verdict"] for row in document["trials"]].count("run") < 30, "without halving the grid alone passes 1e17"
    document, _ = plan("grid-and-final.ini")
    assert [row["verdict"] for row in document["trials"]] == ["run"] * 9 + ["kept"] + ["run"] * 3
    # A filled stage pays for what is evaluated with its steps: on the way, and the bare model at a context of its own.
    counted = [word for item in ("budget.count=training+evaluation", "budget.over=skip", "evaluate.forecast_on=validation")
               for word in ("--set", item)]
    for own in (["stage.final.every=50"], ["stage.final.every=1"], ["stage.final.context=640"],
                ["stage.final.context=640", "stage.final.share=30", "stage.final.every=7"]):
        document, _ = plan("grid-and-final.ini", *counted, *(word for item in own for word in ("--set", item)))
        final, cap = document["trials"][-1], 0.3e17 if len(own) == 3 else 1e17
        spent = final["flops_counted"] if len(own) == 3 else final["flops_total"]
        assert final["verdict"] == "run" and 0.99 * cap < spent <= cap, (own, final)
    tiny = ["--set", f"model.path={harness.SOURCE}/sweeps/quickstart/model"]
    for ini, trials in [("smoke.ini", 2), ("debug.ini", 1), ("quickstart.ini", None)]:
        document, text = plan(ini, *tiny)
        assert trials in (None, len(document["trials"])), (ini, document)
        assert "nan" not in text, text
    assert "head_rows = text" in plan("grid-3x3x3.ini", "--set", "run.head_rows=text")[1]

    # Generation with and without a key/value cache; evaluation that a convention counts at nothing.
    def flops(*words):
        return json.loads(harness.run(0, "flops", "--json", "--rank", "4", "--steps", "0", *words).stdout)

    answer = flops("--prompt", "499", "--generate", "500")
    assert (answer["generation_cached"], answer["generation_without_cache"]) == (909639815085, 294957709860750)
    assert answer["total"] == answer["generation_cached"]
    assert flops("--convention", "report_a", "--evaluate", "300")["evaluation"] == 300 * 563002950384
    assert flops("--convention", "report_b", "--evaluate", "300", "--generate", "9")["total"] == 0
    assert "generation_cached" not in flops()

    # What the data file says against the INI is told with its line, among the other errors.
    (where / "wrong.ini").write_text(f"[data]\nfile = data.h5\nsplit = index:900/200/100\n[model]\npath = {tiny[1][11:]}\n"
                                     "[stage.search]\nlr = 1e-4\n")
    said = harness.run(0, "plan", where / "wrong.ini", expect=2).stderr
    assert "wrong.ini:3: [data] split = index:900/200/100 needs 1200 series" in said, said
    assert "wrong.ini:7: [stage.search] lr: unknown key" in said and "\n2 errors, " in said, said

    # Beside an earlier run: what is new and why, what is left, memory, and time by the speed that was measured.
    ini, few = harness.tiny_sweep(where, rank="2, 8", learning_rate="1e-3", context="64"), ["--set", "run.threads=1"]
    before = harness.run(0, "plan", ini, *few).stdout
    assert "memory  " in before and "time    not known" in before and "1e-3" not in before and "0.001" in before, before
    harness.run(0, ini, *few)
    done = harness.run(0, "plan", ini, *few).stdout
    assert "nothing to do" in done and "memory" not in done and "priced with" not in done, done
    changed = [*few, "--set", "stage.search.rank=2, 4", "--set", "stage.search.learning_rate=1e-3"]
    said = harness.run(0, "plan", ini, *changed).stdout
    assert "rank: 2 -> 4" in said or "rank: 8 -> 4" in said, said
    assert "left    r8-" in said and "superseded" in said and "time    about" in said, said
    document = json.loads(harness.run(0, "plan", ini, *changed, "--json").stdout)
    assert document["worker_seconds"] > 0 and document["worker_bytes"] > 1e6 and document["weight_bytes"] > 1e6, document
    # A metric that does not see past what a stage varies is warned of, by the run as well.
    for words, phrase in [(["stage.search.decimals=1, 2"], "val_loss is not comparable over decimals, which [stage.search]"),
                          (["stage.search.decimals=1, 2", "sweep.metric=val_nats_per_value"], None),
                          (["stage.final.horizon=4, 5", "sweep.metric=val_mae"], "over horizon, which [stage.final]"),
                          (["stage.search.decimals=1"], None)]:
        said = harness.run(0, "plan", ini, *few, *(part for word in words for part in ("--set", word))).stderr
        assert (phrase in said) if phrase else ("comparable" not in said), (words, said)
    # One channel may choose; the data must have it.
    harness.run(0, "plan", ini, *few, "--set", "sweep.metric=val_mae.predator")
    said = harness.run(0, "plan", ini, *few, "--set", "sweep.metric=val_mae.pray", expect=2).stderr
    assert "metric val_mae.pray: the series have no such channel; allowed: val_mae.prey, val_mae.predator" in said, said
    said = harness.run(0, ini, *few, "--set", "stage.search.padding=right_masked, right_counted", "--output",
                       where / "pads").stderr
    assert "val_loss is not comparable over padding" in said, said
    print("plan: reports, examples, conventions, printed percentages; flops: generation")
finally:
    harness.clean(where)
