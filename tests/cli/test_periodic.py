"""Forecasts during training: both errors of the last ones are computed again from the forecasts that the finished trial
left, whole and with values missing, of all series and of some; after a death in the middle the curves are those of an
undisturbed run, to the bit."""
import json
import math
import struct

import harness

FORMATS = {0: "f", 1: "d", 2: "i", 3: "q"}
ERRORS = ("val_mae_scaled", "val_mse_scaled")


def arrays(path):
    """Named arrays of a trial's file (docs/results-format.md): (shape, values)."""
    data, found = path.read_bytes(), {}
    for i in range(struct.unpack_from("<I", data, 8)[0]):
        name, kind, dims, *shape, offset = struct.unpack_from("<24sii4qQ", data, 16 + 72 * i)
        values = struct.unpack_from(f"<{math.prod(shape[:dims])}{FORMATS[kind]}", data, offset)
        found[name.rstrip(b"\0").decode()] = (shape[:dims], values)
    return found


def errors(folder, points):
    """MAE and MSE of the first points of the validation forecasts in scaled space, means within a series over what could
    be read, then over the series; how many values are missing."""
    factor = json.loads((folder / "adapter/lvsweep.json").read_text())["scaling"]["factor"]
    forecast, series, missing = arrays(folder / "forecast.bin"), [], 0
    (n_series, n_time, n_channel), predicted = forecast["predicted_1"]
    observed = forecast["observed_1"][1]
    for s in range(n_series):
        cells = [(s * n_time + t) * n_channel + c for t in range(points) for c in range(n_channel)]
        differences = [(predicted[i] - observed[i]) / factor[i % n_channel] for i in cells]
        read = [d for d in differences if not math.isnan(d)]
        missing += len(differences) - len(read)
        if read:
            series.append((sum(map(abs, read)) / len(read), sum(d * d for d in read) / len(read)))
    return [sum(column) / len(series) for column in zip(*series)], missing


def sweep(output, *sets, environment=None):
    """The sweep's one trial: its folder, its row, and what was said."""
    words = [word for item in (*always, *sets) for word in ("--set", item)]
    done = harness.run(0, ini, "--output", where / output, *words, environment=environment)
    row, = harness.table(where / output)
    assert row["status"] == "done", row
    return where / output / "trials" / row["name"], row, done.stderr


def check_last(folder, points):
    """The last evaluation is of the weights that are kept, so its forecasts begin as the trial's own do."""
    curves = arrays(folder / "curves.bin")
    expected, missing = errors(folder, points)
    assert curves["evaluation_step"][1] == (2, 4) and all(map(math.isnan, curves["val_loss"][1])), curves
    for name, value in zip(ERRORS, expected):
        first, last = curves[name][1]
        assert first != last and abs(last - value) < 1e-9 * value, (name, first, last, value)
    assert abs(expected[1] / expected[0]**2 - 1) > 1e-3, "an absolute error squared would do as well"
    return missing


where = harness.folder()
try:
    harness.run(0, "simulate", "-o", where / "data.h5", "--systems", "80", "--seed", "3")
    ini = harness.tiny_sweep(where, rank="4", learning_rate="3e-2", steps="4")
    always = ["sweep.stages=search", "data.scale_over=train", "evaluate.series=all", "evaluate.baselines=none",
              "evaluate.every=2", "evaluate.every_metric=forecast", "evaluate.every_series=all"]
    short = ["evaluate.every_horizon=3"]
    whole = sweep("whole", *short)[0]
    assert check_last(whole, 3) == 0

    # Some of the series, the same ones that the trial's own forecasts are asked for.
    for some in ("2", "random:2"):
        folder, row, _ = sweep(f"some-{some}", *short, f"evaluate.every_series={some}", f"evaluate.series={some}")
        assert check_last(folder, 3) == 0 and row["val_n_series"] == "2", row
        assert arrays(folder / "curves.bin")[ERRORS[0]] != arrays(whole / "curves.bin")[ERRORS[0]], "all series were used"

    # Samples with holes: what could be read counts; or a forecast that is not whole is in neither error.
    holes = ["evaluate.every_horizon=5", "evaluate.decoding=sample", "evaluate.temperature=2.3"]
    count, row, _ = sweep("count", *holes)
    assert check_last(count, 5) > 0, row
    drop, row, _ = sweep("drop", *holes, "evaluate.partial=drop")
    for name in ERRORS:
        last, readable = (arrays(folder / "curves.bin")[name][1][-1] for folder in (drop, count))
        assert f"{last:.12g}" == f"{float(row[name + '_mean'] or 'nan'):.12g}" != f"{readable:.12g}", (name, row)

    # The trainer dies at its end; the next one goes on from a checkpoint that holds the first evaluation.
    often = ["run.checkpoint_every=0.001s", "run.retries=1"]
    died, row, said = sweep("died", *short, *often, environment={"LVSWEEP_FAULT": "evaluation:1:kill"})
    assert "it is tried again" in said and row["attempt"] == "2", (said, row)
    assert any(f"goes on from its checkpoint at step {step}\n" in said for step in (2, 3)), said
    assert (died / "curves.bin").read_bytes() == (whole / "curves.bin").read_bytes(), "curves after a death"
    print("periodic forecasts: both errors, holes, a death")
finally:
    harness.clean(where)
