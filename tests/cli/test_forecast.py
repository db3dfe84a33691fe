"""lvsweep forecast: the same numbers as the sweep's own forecasts, samples, dates, standard input, refusals."""
import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys

import harness

HISTORY, HORIZON = 50, 5


def dump(path, dataset):
    """Numbers of a dataset, by h5dump."""
    text = subprocess.run(["h5dump", "-y", "-w", "0", "-m", "%.17g", "-d", dataset, str(path)], check=True, text=True,
                          stdout=subprocess.PIPE).stdout
    body = text[text.index("DATA {") + 6:text.rindex("}", 0, text.rindex("}"))]
    body = body.split("ATTRIBUTE")[0].split("}")[0]
    return [float(word) for word in re.findall(r"[-+0-9.eE]+|nan", body)]


def rows_of(text):
    return list(csv.DictReader(io.StringIO(text)))


def forecast(*words, text=None, expect=0):
    done = subprocess.run([str(harness.PROGRAM), "forecast", *map(str, words), "--threads", "1"], input=text,
                          env=harness.ENVIRONMENT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if done.returncode != expect:
        sys.exit(f"forecast {words} ended with {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done


if not shutil.which("h5dump"):
    print("skipped: no h5dump")
    sys.exit(0)
where = harness.folder()
try:
    ini = harness.tiny_sweep(where, rank="8", learning_rate="1e-3", context="64")
    harness.run(0, ini, "--set", "run.threads=1")
    output = where / "tiny.lvsweep"

    # The sweep forecast series of its validation split from their first half; so do we, from a CSV of that half with
    # its channels the other way round.
    series = [int(s) for s in dump(output / "results.h5", "/forecast/series")]
    predicted = dump(output / "results.h5", "/forecast/predicted")
    values, time = dump(where / "data.h5", "/trajectories"), dump(where / "data.h5", "/time")
    best = harness.run(0, "best", output, "--path").stdout.strip()
    trials = [row["name"] for row in harness.table(output)]
    at = trials.index(os.path.basename(best)) * len(series) * HORIZON * 2
    lines = ["series,time,predator,prey"]
    for s in series:
        for t in range(HISTORY):
            prey, predator = values[(s * 100 + t) * 2:(s * 100 + t) * 2 + 2]
            lines.append(f"s{s},{time[t]!r},{predator!r},{prey!r}")
    # The table that getting-started.md shows is one.
    guide = (harness.SOURCE / "docs/getting-started.md").read_text()
    shown = re.search(r"^```\n(series,time,.*?)^```$", guide, re.S | re.M)[1]
    assert len(rows_of(forecast(output, "--data", "-", "--horizon", 2, "--samples", 2, text=shown).stdout)) == 4

    new = where / "new.csv"
    new.write_text("\n".join(lines) + "\n")
    rows = rows_of(forecast(output, "--data", new, "--horizon", HORIZON, "--samples", 1).stdout)
    assert [row["channel"] for row in rows[:2]] == ["prey", "predator"]
    got = [float(row["median"]) for row in rows]
    want = predicted[at:at + len(got)]
    assert len(got) == len(series) * HORIZON * 2
    worst = max(abs(g - w) / abs(w) for g, w in zip(got, want))
    assert worst < 1e-6, (worst, got, want)
    assert all(abs(float(row["time"]) - time[HISTORY + i // 2 % HORIZON]) < 1e-6 for i, row in enumerate(rows))

    # Quantiles in order, reproducible by seed, another seed differs; standard input; an adapter copied away.
    words = ["--data", "-", "--horizon", 3, "--samples", 16, "--seed", 5]
    first = forecast(output, *words, text=new.read_text()).stdout
    for row in rows_of(first):
        quantiles = [float(row[name]) for name in ("q05", "q25", "median", "q75", "q95")]
        assert quantiles == sorted(quantiles) and row["samples"] == "16", row
    harness.run(0, "export", output, "--adapter", "best", "-o", where / "away")
    assert forecast(where / "away", *words, text=new.read_text()).stdout == first
    assert forecast(where / "away", *words[:-1], 6, text=new.read_text()).stdout != first
    assert forecast(best, *words, text=new.read_text()).stdout == first, "a trial's folder"

    # Dates come back as dates.
    dated = "time;prey;predator\n" + "\n".join(f"2024-01-{d:02};{d},5;{30 - d},25" for d in range(1, 29)) + "\n"
    rows = rows_of(forecast(output, "--data", "-", "--horizon", 2, "--samples", 2, text=dated).stdout)
    assert [row["time"] for row in rows] == ["2024-01-29"] * 2 + ["2024-01-30"] * 2, rows

    # More history than positions is cut and said.
    long = "prey,predator\n" + "\n".join(f"{1 + i % 7},{2 + i % 5}" for i in range(600)) + "\n"
    done = forecast(output, "--data", "-", "--horizon", 2, "--samples", 1, text=long)
    assert re.search(r"the last \d+ of 600 points", done.stderr), done.stderr

    # Who waits for long is told how long.
    many = "series,time,prey,predator\n" + "".join(f"s{s},{t},{2 + (s + t) % 5},{1 + t % 3}\n" for s in range(200)
                                                   for t in range(12))
    running = subprocess.Popen([str(harness.PROGRAM), "forecast", str(output), "--data", "-", "--horizon", "100",
                                "--samples", "8", "--threads", "1"], env=harness.ENVIRONMENT, text=True,
                               stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    running.stdin.write(many)
    running.stdin.close()
    told = next((line for line in running.stderr if "% of the forecast is there" in line), "")
    running.kill()
    running.wait()
    assert re.search(r"about \d+ (s|min) left \(a shorter --history", told), told

    # Refusals.
    info = json.loads((where / "away/lvsweep.json").read_text())
    for words, text, code, cause in [
            ([output, "--data", "-"], "prey\n1\n2\n3\n4\n", 5, "--channels"),
            ([output, "--data", "-"], "prey,predator\n1,2\n,3\n4,5\n5,6\n", 5, "missing"),
            ([output, "--data", where / "none.csv"], None, 5, "none.csv"),
            ([output], None, 2, "--data"),
            ([output, "--data", new, "--trial", "nobody"], None, 2, "nobody"),
            ([output, "--data", new, "--horizon", 99999], None, 2, "positions"),
            ([where, "--data", new], None, 5, "journal")]:
        done = forecast(*words, text=text, expect=code)
        assert cause in done.stderr, (words, done.stderr)
    info["base_model"] = str(where / "gone")
    (where / "away/lvsweep.json").write_text(json.dumps(info))
    assert "--model" in forecast(where / "away", "--data", new, expect=5).stderr
    model = harness.SOURCE / "sweeps/quickstart/model"
    forecast(where / "away", "--data", new, "--model", model, "--horizon", 1, "--samples", 1)
    shutil.copytree(model, where / "other")
    config = json.loads((where / "other/config.json").read_text())
    config["rope_theta"] = 20000.0
    (where / "other/config.json").write_text(json.dumps(config))
    assert "not the model" in forecast(where / "away", "--data", new, "--model", where / "other", expect=5).stderr
    print(f"forecast equals the sweep's own to {worst:.1e}; samples, dates and refusals as stated")
finally:
    harness.clean(where)
