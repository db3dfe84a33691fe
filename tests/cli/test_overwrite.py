"""No subcommand writes over what it reads, nor over a file that it did not make, unless --force says so."""
import os
import shutil
import subprocess

import harness

NOTES = "notes of years\n"


def put(name, text=NOTES):
    path = where / name
    path.write_text(text)
    return path


def unchanged(path, text, *words, cause, expect=6):
    """The subcommand is refused, the file stays, nothing is left beside it."""
    before = sorted(p.name for p in path.parent.iterdir())
    said = harness.run(0, *words, expect=expect).stderr
    assert cause in said, (words, said)
    assert path.read_text() == text, words
    assert sorted(p.name for p in path.parent.iterdir()) == before, words


where = harness.folder()
try:
    ini = harness.tiny_sweep(where, rank="2", learning_rate="1e-2", context="64", steps="2", final="2")
    harness.run(0, ini, "--set", "evaluate.forecast_on=none")
    sweep, data = where / "tiny.lvsweep", where / "data.h5"
    table = "series,time,hare,lynx\n" + "".join(f"a,{t},{5 + t % 3},{9 - t % 4}\n" for t in range(30))
    wide = put("wide.csv", table)
    columns = ["--series", "series", "--time", "time"]
    forecast = ["forecast", sweep, "--horizon", "1", "--samples", "1", "--threads", "1"]

    # An input, by its own name, another one, a link; --force changes nothing about it.
    os.link(wide, where / "hard.csv")
    os.symlink("wide.csv", where / "soft.csv")
    for name in (wide, where / "hard.csv", where / "soft.csv", where / "." / ".." / where.name / "wide.csv"):
        for force in ([], ["--force"]):
            unchanged(wide, table, "import", wide, "-o", name, *columns, *force, cause="is the file that is read")
            unchanged(wide, table, *forecast, "--data", wide, "-o", name, *force, cause="is the file that is read")
    with open(wide) as stream:
        done = subprocess.run([harness.PROGRAM, "import", "-", "-o", wide, *columns, "--force"], stdin=stream, text=True,
                              env=harness.ENVIRONMENT, stderr=subprocess.PIPE)
    assert done.returncode == 6 and "(standard input)" in done.stderr and wide.read_text() == table, done
    text = ini.read_text()
    unchanged(ini, text, "jobscript", ini, "-o", ini, "--force", cause="is the file that is read")
    before = data.read_bytes()
    done = harness.run(0, "report", sweep, "-o", data, "--force", expect=6)
    assert "is the file that is read" in done.stderr and data.read_bytes() == before, done.stderr
    journal = sweep / "journal.jsonl"
    for words in (["export", sweep, "--csv"], ["export", sweep, "--json"], ["report", sweep],
                  ["report", sweep, "--svg", "training"], [*forecast, "--data", wide]):
        unchanged(journal, journal.read_text(), *words, "-o", journal, "--force", cause="not even --force")

    # A journal that a sweep has only just opened is as empty as a file that nobody minds.
    (sweep / "new.jsonl").write_text("")
    unchanged(sweep / "new.jsonl", "", "export", sweep, "--csv", "-o", sweep / "new.jsonl", cause="not even --force")

    # Somebody's file.
    notes = put("notes.txt")
    for words in (["import", wide, *columns], ["simulate", "--systems", "2"], ["export", sweep, "--csv"],
                  ["export", sweep, "--json"], ["report", sweep], ["report", sweep, "--svg", "training"],
                  [*forecast, "--data", wide], ["init"], ["init", "--preset", "quickstart"], ["jobscript", ini]):
        unchanged(notes, NOTES, *words, "-o", notes, cause="add --force")
        harness.run(0, *words, "-o", notes, "--force")
        assert notes.read_bytes() != NOTES.encode(), words
        put("notes.txt")
    for figure in ("png", "pdf"):
        if shutil.which("rsvg-convert"):
            unchanged(notes, NOTES, "report", sweep, f"--{figure}", "training", "-o", notes, cause="add --force")

    # What the same subcommand made may be made anew; what another one made may not.
    made = {where / "t.csv": ["export", sweep, "--csv"], where / "t.json": ["export", sweep, "--json"],
            where / "p.html": ["report", sweep], where / "f.svg": ["report", sweep, "--svg", "training"],
            where / "o.csv": [*forecast, "--data", wide], sweep / "report.html": ["report", sweep]}
    for path, words in made.items():
        harness.run(0, *words, "-o", path)
        harness.run(0, *words, "-o", path)
        assert path.stat().st_size > 60
    for path in made:
        for words in made.values():
            if words is not made[path] and words != made[path]:
                unchanged(path, path.read_text(), *words, "-o", path,
                          cause="not even --force" if path.parent == sweep else "exists already and is not")
    again = [*forecast, "--data", where / "o.csv", "--channels", "median+q05", "-o", where / "o.csv"]
    unchanged(where / "o.csv", (where / "o.csv").read_text(), *again, cause="is the file that is read")

    # Data files and INIs are no products: they are edited, or cost time.
    harness.run(0, "simulate", "-o", where / "own.h5", "--systems", "2")
    assert "add --force" in harness.run(0, "simulate", "-o", where / "own.h5", expect=6).stderr
    assert "add --force" in harness.run(0, "import", wide, *columns, "-o", where / "own.h5", expect=6).stderr

    # An empty file (mktemp) is nothing to lose; folders, devices and missing folders are told by name.
    put("empty.h5", "")
    harness.run(0, "import", wide, *columns, "-o", where / "empty.h5")
    for path, cause in ((where, "is a folder"), ("/dev/null", "is no regular file"),
                        (where / "none/a.svg", f"there is no folder {where / 'none'}"), (wide / "a", "is no folder")):
        for words in (["export", sweep, "--csv"], ["import", wide, *columns]):
            said = harness.run(0, *words, "-o", path, "--force", expect=6).stderr
            assert said.startswith(f"{path}: ") and cause in said and ".tmp." not in said, said
    subprocess.run(["test", "-c", "/dev/null"], check=True)
    print("inputs and foreign files stay; products are made anew; --force does as it says")
finally:
    harness.clean(where)
