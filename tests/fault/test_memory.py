#!/usr/bin/env python3
"""A whole sweep on three ranks, with the fake runner and with a small model, and no error of memory in it: under
Valgrind, or with LVSWEEP_PROGRAM built with -DLVS_SANITIZE=address,undefined (--sanitized). By hand: minutes.

An error is ours when the first frame that belongs neither to the C library nor to Valgrind is ours; Open MPI, PMIx and
HDF5 leave things behind of their own."""
import argparse
import collections
import re
import subprocess
import sys

import sweeps
from sweeps import harness

SUPPRESSIONS = "/usr/share/openmpi/openmpi-valgrind.supp"
OWN = {path.name for path in (harness.SOURCE / "src").rglob("*.c")}
FRAME = re.compile(r"(?:at|by) 0x[0-9A-F]+: (\S+) \((?:in )?([^):]+)(?::\d+)?\)|(?:at|by) 0x[0-9A-F]+: (\?\?\?)")


def is_ours(report):
    for function, place, unknown in FRAME.findall(report):
        if unknown or place.startswith("/usr/lib/x86"):
            return False
        if place in OWN:
            return True
    return False


def run(name, ini, where, prefix, environment):
    output = where / name
    words = ["mpirun", "-n", "3", *prefix, str(harness.PROGRAM), str(ini), "--output", str(output)]
    done = subprocess.run(words, env=dict(harness.ENVIRONMENT, **environment), capture_output=True, text=True)
    if done.returncode != 0 or re.search("ERROR: |runtime error", done.stderr):
        sys.exit(f"{name}: exit {done.returncode}\n{done.stderr[-8000:]}")
    return len(harness.table(output))


parser = argparse.ArgumentParser()
parser.add_argument("--sanitized", action="store_true")
options = parser.parse_args()
where = harness.folder()
logs = where / "valgrind"
logs.mkdir()
environment = {"GOMP_SPINCOUNT": "1000", "OMPI_MCA_mpi_yield_when_idle": "1", "ASAN_OPTIONS": "detect_leaks=0"}
prefix = []
if not options.sanitized:
    # Valgrind knows no AVX-512; the program that would start itself again would start Valgrind.
    environment["OPENBLAS_CORETYPE"] = "Haswell"
    prefix = ["valgrind", "--quiet", f"--suppressions={SUPPRESSIONS}", "--leak-check=full", "--num-callers=40",
              "--show-leak-kinds=definite", "--errors-for-leak-kinds=definite", f"--log-file={logs}/%p"]
for name, ini in (("fake", sweeps.fake_ini(where)), ("small", sweeps.small_ini(where))):
    print(f"{name}: {run(name, ini, where, prefix, environment)} trials on 3 ranks", flush=True)
reports, ours = collections.Counter(), []
for log in logs.iterdir():
    for report in re.split(r"\n==\d+== \n", log.read_text()):
        if FRAME.search(report):
            reports["ours" if is_ours(report) else "of libraries"] += 1
            ours += [report] if is_ours(report) else []
print(f"{len(list(logs.iterdir()))} processes under Valgrind, reports: {dict(reports)}" if prefix else
      "no report of AddressSanitizer or UndefinedBehaviorSanitizer")
if ours:
    sys.exit("\n\n".join(ours))
harness.clean(where)
