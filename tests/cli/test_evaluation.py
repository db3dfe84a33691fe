"""Evaluation inside a sweep: chosen series on every part, who pays for the untrained model, CRPS and its price, periodic
evaluation, and the best adapter kept."""
import json
import shutil

import harness


def sweep(output, *sets):
    words = [word for item in sets for word in ("--set", item)]
    harness.run(0, ini, "--output", where / output, *words)
    return harness.table(where / output)


where = harness.folder()
try:
    ini = harness.tiny_sweep(where, rank="2, 4", learning_rate="1e-3", steps="2", final="2")
    counted = ["budget.flops=1e13", "budget.count=training+evaluation", "sweep.stages=search"]
    chosen = ["evaluate.forecast_on=validation+test", "evaluate.series=worst:1+random:1", "evaluate.every=1",
              "evaluate.every_metric=forecast", "evaluate.every_series=worst:1"]
    rows = sweep("chosen", *counted, *chosen)
    for row in rows:
        assert row["status"] == "done" and row["val_n_series"] == row["test_n_series"] == "2", row
        assert row["val_crps"] == "", "one sample has no CRPS"
        spent = int(row["flops_training"]) + int(row["flops_evaluation"])
        assert int(row["flops_counted"]) == spent <= int(row["flops_planned"]), row
    # The first trial of a context measures the untrained model (on every series, for worst:1) and pays for it.
    first, second = (int(row["flops_evaluation"]) for row in rows)
    assert first > 1.5 * second, rows
    assert "no problem found" in harness.run(0, "check", where / "chosen").stdout

    # More samples share the pass over the prompt: dearer, and less than so many times dearer.
    more = sweep("samples", *counted, *chosen, "evaluate.samples=4", "evaluate.decoding=sample",
                 "evaluate.baselines=none", "stage.search.rank=4")[0]
    one = sweep("one", *counted, *chosen, "evaluate.baselines=none", "stage.search.rank=4")[0]
    assert float(more["val_crps"]) > 0 and float(more["test_crps"]) > 0
    assert int(one["flops_evaluation"]) < int(more["flops_evaluation"]) < 4 * int(one["flops_evaluation"])

    # Forecasts that cannot end are another evaluation of the same adapter, within what was reserved for it.
    never = sweep("one", *counted, *chosen, "evaluate.baselines=none", "stage.search.rank=4", "evaluate.end=never")
    assert [row["evaluate_end"] for row in never] == ["stop", "never"], never
    assert [row["train_key"] for row in never] == [one["train_key"]] * 2
    assert never[0]["eval_key"] == one["eval_key"] != never[1]["eval_key"]
    assert never[1]["flops_training"] == "0" and never[1]["val_n_missing"] == "0", never
    assert 0 < int(never[1]["flops_counted"]) <= int(never[1]["flops_planned"]), never

    # Samples so hot that none is whole: their readable values count, or no error is measured. The counters stay.
    hot = ["sweep.stages=search", "stage.search.rank=4", "evaluate.decoding=sample", "evaluate.temperature=50",
           "evaluate.baselines=none", "evaluate.series=all"]
    sweep("hot", *hot)
    count, drop = sweep("hot", *hot, "evaluate.partial=drop")
    errors = [name for name in count if name.startswith(("val_mse", "val_mae", "val_r2"))]
    assert (count["evaluate_partial"], drop["evaluate_partial"]) == ("count", "drop")
    assert any(count[name] for name in errors) and not any(drop[name] for name in errors), (count, drop)
    for name in ("train_key", "val_success_rate", "val_n_malformed", "val_n_missing", "val_n_series"):
        assert count[name] == drop[name], name
    assert count["val_success_rate"] == "0" and int(count["val_n_malformed"]) > 0

    # The checkpoint's own end of text ends forecasts beside the pad.
    shutil.copytree(harness.SOURCE / "sweeps/quickstart/model", where / "model")
    shape = json.loads((where / "model/config.json").read_text())
    (where / "model/config.json").write_text(json.dumps(dict(shape, eos_token_id=15)))
    row = sweep("ends", f"model.path={where / 'model'}", "sweep.stages=search", "stage.search.rank=4")[0]
    info = json.loads((where / "ends/trials" / row["name"] / "adapter/lvsweep.json").read_text())
    assert (info["vocabulary"]["pad_id"], info["vocabulary"]["eos_id"]) == (14, 15), info
    assert "more_ends" not in info["vocabulary"], info

    # So do all of generation_config.json; where there are more than before, it is another evaluation of the same adapter.
    (where / "model/config.json").write_text(json.dumps(shape))
    words = (f"model.path={where / 'model'}", "sweep.stages=search", "stage.search.rank=4")
    few = sweep("more", *words)[0]
    (where / "model/generation_config.json").write_text(json.dumps(dict(eos_token_id=14)))
    assert len(sweep("more", *words)) == 1
    (where / "model/generation_config.json").write_text(json.dumps(dict(eos_token_id=[14, 15])))
    more = [row for row in sweep("more", *words) if row["eval_key"] != few["eval_key"]]
    assert len(more) == 1 and more[0]["train_key"] == few["train_key"] and more[0]["flops_training"] == "0", more
    info = sweep("fresh", *words)[0]
    info = json.loads((where / "fresh/trials" / info["name"] / "adapter/lvsweep.json").read_text())
    assert (info["vocabulary"]["eos_id"], info["vocabulary"]["more_ends"]) == (14, [15]), info

    # One channel's error chooses for from = best, for best and in results.h5; R2 by the highest.
    rows = sweep("channel", "sweep.metric=val_mae.predator", "stage.search.learning_rate=1e-3, 3e-2",
                 "stage.final.steps=3")
    search = [row for row in rows if row["trial_stage"] == "search"]
    least = min(search, key=lambda row: float(row["val_mae.predator"]))
    final = next(row for row in rows if row["trial_stage"] == "final")
    assert (final["lora_rank"], final["learning_rate"]) == (least["lora_rank"], least["learning_rate"]), rows
    harness.run(0, "report", where / "channel")
    assert "best val_mae.predator, population" in (where / "channel/report.html").read_text()
    for name in ("val_mae.predator", "val_mae.prey", "val_r2.prey", "val_mae_scaled_median", "val_r2_mean",
                 "val_mse_scaled_channel_median.predator", "val_r2_median"):
        said = harness.run(0, "best", where / "channel", "--metric", name).stdout
        assert f"{name} {float(final[name]):.6g}" in said, (name, said, final)
    said = harness.run(0, "best", where / "channel", "--metric", "val_mae.pray", expect=2).stderr
    assert "allowed: val_mae.prey, val_mae.predator" in said, said
    assert "no problem found" in harness.run(0, "check", where / "channel").stdout

    # A warm start goes on from the best adapter of the stage before: one step of next to nothing leaves its loss.
    warm = ["stage.search.rank=4", "stage.search.steps=8", "stage.search.learning_rate=0.003", "stage.final.steps=1",
            "stage.final.learning_rate=1e-9", "evaluate.forecast_on=none"]
    before, after = (float(row["val_loss"]) for row in sweep("warm", *warm, "stage.final.from_adapter=best"))
    cold = float(sweep("cold", *warm, "sweep.stages=search", "stage.search.steps=1", "stage.search.learning_rate=1e-9")
                 [0]["val_loss"])
    assert abs(after - before) < 1e-5 < abs(cold - before), (before, after, cold)

    # keep = best: with a learning rate that ruins the model the kept adapter is an early one, to the bit.
    ruin = ["sweep.stages=search", "stage.search.rank=4", "stage.search.learning_rate=0.03", "evaluate.forecast_on=none",
            "evaluate.every=1"]
    best = sweep("best", *ruin, "stage.search.steps=5", "evaluate.keep=best")[0]
    last = sweep("last", *ruin, "stage.search.steps=5")[0]
    step = int(best["best_step"])
    assert step < 5 and float(best["val_loss"]) < float(last["val_loss"]), (best, last)
    assert last["best_step"] == "5" and best["n_evaluation"] == "5"
    early = sweep("early", *ruin, f"stage.search.steps={step}")[0]
    assert early["val_loss"] == best["val_loss"], (early, best)
    print("evaluation: chosen series, the untrained model's price, samples, a warm start, the best adapter")
finally:
    harness.clean(where)
