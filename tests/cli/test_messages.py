"""Typing errors that people make: the message names the file, what it is, and what to write instead."""
import subprocess

import harness

where = harness.folder()


def said(*words, expect, folder=None):
    """What is printed to standard error, from within `folder`; hwloc complains there of machines without /sys."""
    done = subprocess.run(harness.command(0, *words), cwd=folder, env=harness.ENVIRONMENT, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=120)
    assert done.returncode == expect, (words, done)
    return "".join(line for line in done.stderr.splitlines(keepends=True) if not line.startswith("[hwloc"))


try:
    ini = harness.tiny_sweep(where, rank="2", learning_rate="1e-2", context="64", steps="4", final="4")
    data, output = where / "data.h5", where / "tiny.lvsweep"
    table = where / "wide.csv"
    table.write_text("site,year,flux\n" + "".join(f"a,{year},{year % 7}\n" for year in range(9000)))
    small = where / "small.csv"
    small.write_text("\ufefftime;flux\n1;2\n")
    weights = harness.SOURCE / "sweeps/quickstart/model/model.safetensors"

    # A file that is no INI.
    for file, kind in ((data, "an HDF5 file; lvsweep describe"), (table, "a table; lvsweep import"),
                       (small, "a table; lvsweep import"), (weights, "weights (safetensors)"),
                       (weights.with_name("config.json"), "a JSON document")):
        for words in (["plan", file], ["run", file]):
            text = said(*words, expect=2)
            assert text.startswith(f"{file}: is no INI; it looks like {kind}") and text.count("\n") == 2, text
    for text in ("; a, b\n; c, d\n", "[stage.search]\nrank = 2, 4\n", "a, b\nc\n"):
        (where / "odd.ini").write_text(text)
        assert "is no INI" not in said("plan", where / "odd.ini", expect=2), text

    # A file that is no folder of a sweep.
    for words in (["report"], ["watch", "--once"], ["export", "--csv"], ["best"]):
        text = said(*words, ini, expect=5)
        assert f"{ini}: is an INI; give the OUTPUT folder of a sweep, by default {output}" in text, text
        assert f"{data}: is a file; give" in said(*words, data, expect=5)
        assert f"{where / 'none'}: does not exist; give" in said(*words, where / "none", expect=5)
    assert "tiny.ini: is an INI" in said("report", "tiny.ini", expect=5, folder=where)

    # Values.
    for value, hint in (("[2, 4]", "without brackets"), ("2..8", "Ranges are not known"), ("2 4", "A comma separates"),
                        ("two", None)):
        text = said("plan", ini, "--set", f"stage.search.rank={value}", expect=2)
        assert "is not a number" in text and (hint in text if hint else "comma" not in text), text
    assert "A comma separates" in said("plan", ini, "--set", "stage.search.learning_rate=1e-4 1e-5", expect=2)
    text = said("plan", ini, "--set", "model.path=Qwen/Qwen2.5-0.5B-Instruct", expect=2)
    assert "does not exist" in text and "write hf:Qwen/Qwen2.5-0.5B-Instruct" in text, text
    assert "hf:" not in said("plan", ini, "--set", "model.path=./Qwen/model", expect=2)
    assert "hf:" not in said("plan", ini, "--set", "data.file=Qwen/model", expect=2)

    # A path of --set is the INI's, as in the INI; where the shell completed it in the present folder, that is told.
    (where / "below").mkdir()
    (where / "below/tiny.ini").write_text(ini.read_text())
    text = said("plan", "below/tiny.ini", "--set", "data.file=data.h5", expect=2, folder=where)
    assert 'it is in the present folder: write "$PWD/data.h5"' in text, text

    # Allowed, and hardly meant: told by plan and at the start.
    odd = {"data.scale_percentile=0.95": "scale_percentile = 0.95 is 0.95 %; did you mean 95?",
           "train.warmup=10": "warmup = 10 is longer than the 4 steps of r2-",
           "evaluate.every=10": "every = 10 is longer than the 4 steps of r2-",
           "evaluate.series=worst:10": "series = worst:10, but the validation split has 3 series"}
    plain = {"data.scale_percentile=95", "train.warmup=4", "train.warmup=10%+100", "evaluate.every=4",
             "evaluate.series=worst:3"}
    for setting, warning in odd.items():
        assert warning in said("plan", ini, "--set", setting, expect=0), setting
    for setting in plain:
        assert "warning" not in said("plan", ini, "--set", setting, expect=0), setting
    sets = [word for setting in odd if "percentile" not in setting for word in ("--set", setting)]
    text = said(ini, *sets, expect=0)
    for setting, warning in odd.items():  # two stages, each once
        assert text.count(warning) == (0 if "percentile" in setting else 2), text

    # Options that exclude each other.
    for words in (["--csv", "--json"], ["--json", "--csv"], ["--csv", "--adapter", "best"]):
        assert "at a time" in said("export", output, *words, expect=2), words
    own = where / "own.csv"
    own.write_text("time,predator,prey\n" + "".join(f"{t},{1 + t % 3},{2 + t % 4}\n" for t in range(30)))
    forecast = ["forecast", output, "--data", own, "--horizon", "1", "--threads", "1", "--samples"]
    for option in ("--temperature", "--top-p", "--seed"):
        assert "change nothing" in said(*forecast, "1", option, "0.5" if option != "--seed" else "3", expect=0), option
        assert "change nothing" not in said(*forecast, "2", option, "0.5" if option != "--seed" else "3", expect=0)
    assert "change nothing" not in said(*forecast, "1", expect=0)

    # Channels in another order than the adapter's.
    text = said(*forecast, "1", "--channels", "predator+prey", expect=5)
    assert "predator is channel 1 there, but channel 2 of the adapter" in text, text
    said(*forecast, "1", "--channels", "prey+predator", expect=0)
    own.write_text(own.read_text().replace("predator,prey", "fox,hare"))
    said(*forecast, "1", "--channels", "fox+hare", expect=0)
    print("files, values and options: told what they are")
finally:
    harness.clean(where)
