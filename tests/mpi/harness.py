"""What the tests of whole sweeps share: starting lvsweep on so many ranks, reading what it left."""
import csv
import hashlib
import io
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

PROGRAM = pathlib.Path(os.environ["LVSWEEP_PROGRAM"]).resolve()
SOURCE = pathlib.Path(os.environ["LVSWEEP_SOURCE"]).resolve()
ENVIRONMENT = dict(os.environ, OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1",
                   OMPI_MCA_rmaps_base_oversubscribe="1", OMPI_MCA_btl_base_warn_component_unused="0")

FAKE_INI = """
[stage.search]
rank = 2, 4, 8
learning_rate = 1e-5, 5e-5, 1e-4
steps = 20
[stage.final]
from = best
steps = 50
[run]
runner = fake
fake = {fake}
[evaluate]
loss = yes
"""

RACE_INI = """
[stage.search]
rank = 2, 4, 8
learning_rate = 1e-5, 5e-5, 1e-4
steps = 90
[stage.final]
from = best
steps = 50
[stop]
rule = {rule}
factor = 3
min_steps = 10
[run]
runner = fake
fake = {fake}
"""


def folder():
    """A folder of this test alone; only its own test removes it."""
    name = pathlib.Path(sys.argv[0]).stem.removeprefix("test_") or "test"
    return pathlib.Path(tempfile.mkdtemp(prefix=f"lvsweep-{name}-"))


def command(ranks, *arguments):
    words = [str(PROGRAM), *map(str, arguments)]
    return words if ranks == 0 else ["mpirun", "-n", str(ranks), *words]


def run(ranks, *arguments, expect=0, environment=None, timeout=300):
    """Runs to the end; ranks = 0 means without mpirun. Returns the finished process."""
    done = subprocess.run(command(ranks, *arguments), env=dict(ENVIRONMENT, **(environment or {})), text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=timeout)
    if expect is not None and done.returncode != expect:
        sys.exit(f"{arguments} on {ranks} ranks ended with {done.returncode}, not {expect}\n"
                 f"--- stdout\n{done.stdout}\n--- stderr\n{done.stderr}")
    busy = re.search(r"(\d+) % busy", done.stdout)
    if busy and int(busy[1]) > 100:
        sys.exit(f"{arguments}: workers cannot be busy {busy[1]} % of the time")
    return done


def start(ranks, *arguments, environment=None):
    return subprocess.Popen(command(ranks, *arguments), env=dict(ENVIRONMENT, **(environment or {})), text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def table(output):
    """Rows of `lvsweep export --csv` as dictionaries."""
    return list(csv.DictReader(io.StringIO(run(0, "export", output, "--csv").stdout)))


# Times, hosts and workers may differ between equal sweeps; nothing else may.
TIMING = {"seconds", "seconds_training", "seconds_evaluation", "tokens_per_second", "worker", "host", "device",
          "start_time", "end_time", "peak_memory", "attempt"}


def numbers(output):
    return [{key: value for key, value in row.items() if key not in TIMING} for row in table(output)]


def assert_equal(expected, got, leave_out=()):
    """Tables of `numbers`, but for some columns."""
    assert len(expected) == len(got), (len(expected), len(got))
    for before, after in zip(expected, got):
        for key in before:
            if key not in leave_out:
                assert before[key] == after[key], f"{after['name']}: {key}: {before[key]} != {after[key]}"


def rungs(output):
    """What was decided at rungs: trial, step, verdict, loss."""
    events = map(json.loads, (output / "journal.jsonl").read_text().splitlines())
    return sorted((e["index"], e["step"], e["status"], e["value"]) for e in events if e["e"] == "rung" and e["status"])


def fingerprint(path):
    """Content of every file below a folder."""
    digest = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        digest.update(str(file.relative_to(path)).encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()


def tiny_sweep(where, **settings):
    """An INI with real training on the tiny checkpoint: seconds on two cores."""
    data = where / "data.h5"
    if not data.exists():
        run(0, "simulate", "-o", data, "--systems", "24", "--seed", "3")
    lines = dict(rank="2, 8", learning_rate="1e-4, 1e-3", context="64", steps="6", final="10")
    lines.update(settings)
    ini = where / "tiny.ini"
    ini.write_text(f"""
[data]
file = {data}
[model]
path = {SOURCE}/sweeps/quickstart/model
[stage.search]
rank = {lines['rank']}
learning_rate = {lines['learning_rate']}
context = {lines['context']}
steps = {lines['steps']}
[stage.final]
from = best
steps = {lines['final']}
[budget]
flops = none
[evaluate]
forecast_on = validation
series = 2
horizon = 5
[run]
backend = cpu
threads = 1
""")
    return ini


def clean(path):
    shutil.rmtree(path, ignore_errors=True)
