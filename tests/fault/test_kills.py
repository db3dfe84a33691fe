#!/usr/bin/env python3
"""Random kills from outside, one seed: a trainer, a rank or mpirun gets SIGKILL, mpirun SIGTERM or SIGINT, at a random
moment of a sweep. After each: no process of the sweep is left, every trial that was finished stays finished, and the
same command ends with an undisturbed run's numbers and an exact ledger.

--kills N --seed S"""
import argparse
import os
import pathlib
import random
import signal
import sys
import time

import sweeps
from sweeps import harness

MARK = "LVSWEEP_TEST_MARK"
GRACE_SECONDS = 10


def marked(token):
    """Process ids that carry the token in their environment, with what they are."""
    found = {}
    for entry in pathlib.Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            if f"{MARK}={token}".encode() in (entry / "environ").read_bytes():
                status = (entry / "stat").read_text()
                words = (entry / "cmdline").read_bytes().split(b"\0")
                state, parent = status.rsplit(")", 1)[1].split()[:2]
                if state != "Z":
                    found[int(entry.name)] = (int(parent), os.path.basename(words[0].decode()))
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
    return found


def victims(token, kind):
    """Ranks are lvsweep under mpirun, a helper is a rank's child, a trainer a helper's."""
    found = marked(token)
    lvsweep = {pid: parent for pid, (parent, name) in found.items() if name == "lvsweep"}
    ranks = [pid for pid, parent in lvsweep.items() if parent not in lvsweep]
    helpers = [pid for pid, parent in lvsweep.items() if parent in ranks]
    trainers = [pid for pid, parent in lvsweep.items() if parent in helpers]
    starter = [pid for pid, (_, name) in found.items() if name in ("mpirun", "orterun")]
    return {"rank": ranks, "trainer": trainers, "helper": helpers, "mpirun": starter}[kind]


def finished(output):
    """Trials whose result is in the journal together with its charge."""
    done, journal = {}, output / "journal.jsonl"
    if not journal.exists():
        return done
    last = None
    for line in journal.read_bytes().split(b"\n")[:-1]:
        if b'"e":"record"' in line[:96]:
            last = line
        elif b'"e":"settle"' in line[:96] and last and b'"status":2' in last:
            done[last.split(b'"train_key":"')[1].split(b'"')[0]] = True
    return done


class Campaign:
    def __init__(self, where, seed):
        self.where, self.draw, self.seed = where, random.Random(seed), seed
        self.ini = sweeps.fake_ini(where, fake="step:4e-4")
        self.ini.write_text(self.ini.read_text().replace("rank = 2, 4", "rank = 2, 4, 8").replace(
            "learning_rate = 1e-4", "learning_rate = 1e-5, 1e-4"))
        code, text = sweeps.run(3, [self.ini, "--output", where / "whole"])
        if code != 0:
            sys.exit(text)
        self.expected = sweeps.results(where / "whole")
        self.kinds = [("trainer", signal.SIGKILL), ("trainer", signal.SIGKILL), ("rank", signal.SIGKILL),
                      ("mpirun", signal.SIGKILL), ("helper", signal.SIGKILL), ("mpirun", signal.SIGTERM),
                      ("mpirun", signal.SIGINT)]
        self.landed = 0

    def strike(self, number):
        """Faults found, and what was done."""
        kind, what = self.draw.choice(self.kinds)
        token, output = f"{os.getpid()}-{number}", self.where / f"out-{number}"
        command = ["--output", output]
        process = harness.start(3, self.ini, *command,
                                environment={MARK: token, "OMPI_MCA_orte_tmpdir_base": str(self.where)})
        journal = output / "journal.jsonl"
        while process.poll() is None and not journal.exists():
            time.sleep(0.01)
        time.sleep(self.draw.random() * 0.25)
        targets = victims(token, kind)
        before = finished(output)
        if targets:
            try:
                os.kill(self.draw.choice(targets), what)
                self.landed += 1
            except ProcessLookupError:
                pass
        faults = []
        try:
            out, err = process.communicate(timeout=60)
        except Exception:
            process.kill()
            out, err = process.communicate()
            faults.append("it hung")
        until = time.time() + GRACE_SECONDS
        while marked(token) and time.time() < until:
            time.sleep(0.05)
        left = marked(token)
        if left:
            faults.append(f"orphans: {left}")
            for pid in left:
                os.kill(pid, signal.SIGKILL)
        missing = set(before) - set(finished(output))
        if missing:
            faults.append(f"lost: {missing}")
        code, text = sweeps.run(3, [self.ini, *command])
        if code != 0:
            faults.append(f"the second run ended with {code}\n{text}")
        else:
            faults += sweeps.differences(self.expected, output)
        if not faults:
            harness.clean(output)
        return f"{what.name} to {kind}: exit {process.returncode}", faults, out + err


parser = argparse.ArgumentParser()
parser.add_argument("--kills", type=int, default=20)
parser.add_argument("--seed", type=int, default=1)
options = parser.parse_args()
folder = harness.folder()
campaign, bad, began, number = Campaign(folder, options.seed), 0, time.time(), 0
summary = {}
while campaign.landed < options.kills and number < 3 * options.kills:
    done, faults, text = campaign.strike(number)
    number += 1
    summary[done] = summary.get(done, 0) + 1
    if faults:
        bad += 1
        print(f"{number}: {done}: {faults}\n{text}", flush=True)
print(f"{campaign.landed} kills in {time.time() - began:.0f} s, {bad} with a difference, seed {options.seed}")
for done, count in sorted(summary.items()):
    print(f"  {count:3d} x {done}")
if not bad:
    harness.clean(folder)
if bad or campaign.landed < options.kills:
    sys.exit(f"{bad} differences; kept: {folder}")
