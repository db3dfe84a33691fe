"""One's own data: a wide CSV with negative values and gaps, imported, described, planned, swept and forecast."""
import csv
import json
import math
import random

import harness

SERIES, POINTS, CHANNELS = 40, 250, ["temperature", "anomaly", "flux"]


def value(site, year, channel):
    phase = 2 * math.pi * (year / (20 + site % 5) + channel / 3)
    return round((channel + 1) * math.sin(phase) + (5 if channel == 0 else 0), 4)


def write_table(path, gaps=True, unequal=False):
    chance = random.Random(7)
    lines = []
    for site in range(SERIES):
        for year in range(POINTS):
            if gaps and 0 < year < POINTS - 1 and chance.random() < 0.01:
                continue  # a whole row is missing
            if unequal and site == 3 and year < 10:
                continue
            cells = [value(site, year, channel) for channel in range(3)]
            if gaps and chance.random() < 0.02:
                cells[chance.randrange(3)] = "NA"
            lines.append([f"site {site}", 1770 + year, *cells])
    chance.shuffle(lines)  # rows in any order
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["site", "year", *CHANNELS])
        writer.writerows(lines)


where = harness.folder()
try:
    table, data = where / "wide.csv", where / "d.h5"
    write_table(table)
    done = harness.run(0, "import", table, "-o", data, "--series", "site", "--time", "year", "--units", "K+K+W m-2",
                       "--time-unit", "year")
    assert f"{SERIES} series, {POINTS} points, 3 channels (temperature, anomaly, flux)" in done.stdout, done.stdout
    assert "values are missing" in done.stdout and "below zero" in done.stdout

    # Gaps are refused unless the user says what to do.
    refused = harness.run(0, "describe", data, expect=5)
    assert "missing" in refused.stderr and "interpolate" in refused.stderr, refused.stderr
    fill = ["--set", "data.missing=interpolate"]
    seen = json.loads(harness.run(0, "describe", data, *fill, "--json", "--kinds", "3").stdout)
    assert (seen["series"], seen["points"]) == (SERIES, POINTS)
    assert [channel["name"] for channel in seen["channels"]] == CHANNELS
    assert "clusters" in seen and len(seen["clusters"]) == 3
    text = harness.run(0, "describe", data, *fill).stdout
    assert "temperature (K)" in text and "points in 128, 512, 768" in text, text

    ini = where / "own.ini"
    ini.write_text(f"""
[data]
file = d.h5
missing = interpolate
[model]
path = {harness.SOURCE}/sweeps/quickstart/model
[stage.search]
rank = 2
learning_rate = 1e-3
context = 64
steps = 4
[budget]
flops = none
[evaluate]
forecast_on = validation
series = 1
history = 20
horizon = 2
[run]
backend = cpu
threads = 1
""")
    plan = harness.run(0, "plan", ini).stdout
    assert "40 series, 250 points, 3 channels" in plan and "tokens a series" in plan, plan
    assert json.loads(harness.run(0, "describe", ini, "--json").stdout)["series"] == SERIES

    # What the model has too few positions for is found before anything is trained, not after.
    few, many = "evaluate.history=100", "evaluate.history=200"
    wide = ["stage.search.decimals=2, 6", few]
    periodic = ["evaluate.forecast_on=none", "evaluate.every=2", "evaluate.every_metric=forecast", "sweep.metric=val_loss"]
    for words, code, cause in [([many], 2, "[stage.search]: a forecast needs up to 3"),
                               ([many, "evaluate.series=worst:2"], 2, "the model knows 2048 positions"),
                               ([many, "evaluate.narrow=1/2"], 2, "the model knows 2048 positions"),
                               ([many, *periodic], 2, "the model knows 2048 positions"),
                               ([few, "evaluate.horizon=40"], 2, "the model knows 2048 positions"),
                               (wide, 2, "[stage.search]: a forecast needs up to"),
                               ([*wide, "evaluate.series=worst:2"], 2, "[stage.search]: a forecast needs up to"),
                               ([*wide, "evaluate.series=worst:2+3", "evaluate.narrow=1/2"], 2, "the model knows 2048"),
                               (["stage.search.context=2049"], 5, "a context of 2049 tokens"),
                               ([few], 0, ""), ([few, "evaluate.series=worst:2"], 0, ""), ([few, *periodic], 0, "")]:
        sets = [part for word in words for part in ("--set", word)]
        said = harness.run(0, "plan", ini, *sets, expect=code).stderr
        assert cause in said, (words, said)
    harness.run(0, ini, "--set", many, expect=2)
    assert not (where / "own.lvsweep/journal.jsonl").exists(), "nothing was started"

    harness.run(0, ini)
    rows = harness.table(where / "own.lvsweep")
    assert len(rows) == 1 and rows[0]["status"] == "done" and float(rows[0]["val_loss"]) > 0, rows

    # Forecast of the same table, gaps and all.
    out = where / "out.csv"
    harness.run(0, "forecast", where / "own.lvsweep", "--data", table, "--series", "site", "--time", "year",
                "--history", "20", "--horizon", "2", "--samples", "4", "--threads", "1", *fill, "-o", out)
    lines = list(csv.DictReader(out.open()))
    assert len(lines) == SERIES * 2 * 3
    assert {line["series"] for line in lines} == {f"site {site}" for site in range(SERIES)}
    assert {line["time"] for line in lines} == {"2020", "2021"}

    # The table has columns that nobody named: refused, not glued into one series without its sites.
    for words in ([], ["--series", "site"]):
        said = harness.run(0, "forecast", where / "own.lvsweep", "--data", table, *words, *fill, expect=5).stderr
        assert "would not be used" in said and ("--time year" if words else "--series site --time year") in said, said
        assert "--channels temperature+anomaly+flux" in said, said
    said = harness.run(0, "import", table, "-o", where / "glued.h5", expect=5).stderr
    assert "did you mean --series site --time year?" in said and not (where / "glued.h5").exists(), said

    # What import refuses, in words.
    write_table(where / "unequal.csv", gaps=False, unequal=True)
    columns = ["-o", where / "x.h5", "--series", "site", "--time", "year"]
    refused = harness.run(0, "import", where / "unequal.csv", *columns, expect=5)
    assert "site 3" in refused.stderr, refused.stderr
    harness.run(0, "import", where / "unequal.csv", *columns, "--unequal", "cut")
    assert json.loads(harness.run(0, "describe", where / "x.h5", "--json").stdout)["points"] == POINTS - 10
    for words, code, cause in [(["--series", "place"], 5, "place"), (["--units", "K+K"], 2, "2 units"),
                               (["--unequal", "maybe"], 2, "maybe"), (["--channels", "flux+none"], 5, "none")]:
        refused = harness.run(0, "import", table, *columns, *words, "--force", expect=code)
        assert cause in refused.stderr, refused.stderr
    assert "no such file" in harness.run(0, "describe", where / "nothing.h5", expect=None).stderr
    print("import, describe, plan, sweep and forecast of 40 x 250 x 3 with gaps and negative values")
finally:
    harness.clean(where)
