#!/usr/bin/env python3
"""Every failpoint, every action it has, at every passage until none is reached: after each fault the same command
finishes the sweep, and its numbers and its ledger are an undisturbed run's.

--long N --seed S: N faults, drawn at random among the passages of an undisturbed run, one to three of them in a run.
--table FILE writes what was seen, --log FILE a line a run."""
import argparse
import collections
import concurrent.futures
import itertools
import random
import re
import shutil
import subprocess
import sys
import time

import sweeps
from sweeps import harness

MAX_PASSAGE = 400


class Case:
    """A sweep that faults are injected into."""

    def __init__(self, name, ranks, ini, where, points, actions, every, weight):
        self.name, self.ranks, self.ini, self.where, self.points = name, ranks, ini, where, points
        self.actions, self.every, self.weight = actions, every, weight  # passages up to `every` one by one
        code, text = sweeps.run(ranks, [ini, "--output", where / f"{name}-whole"])
        if code != 0:
            sys.exit(f"{name}: the undisturbed sweep ended with {code}\n{text}")
        self.expected = sweeps.results(where / f"{name}-whole")
        text = sweeps.run(ranks, [ini, "--output", where / f"{name}-count"], {"LVSWEEP_FAULT": "count"})[1]
        self.passages = collections.Counter()
        for point, count in re.findall(r"^passed: (\S+) (\d+)", text, re.M):
            self.passages[point] = max(self.passages[point], int(count))
        self.orders = [(point, action) for point, actions, _ in POINTS for action in actions.split()
                       if point in points and action in self.actions]

    def draw(self, draw):
        """An order at a passage that is reached, or a few beyond: retries make more of them."""
        point, action = draw.choice(self.orders)
        return f"{point}:{draw.randint(1, min(self.passages[point], 40) + 1)}:{action}"


class Outcome:
    def __init__(self, case, orders):
        self.case, self.orders, self.reached, self.seen, self.faults, self.text = case, orders, 0, "", [], ""


def describe(code):
    return {0: "finished", 3: "trials failed", 6: "exit 6", 7: "exit 7", 99: "exit 99", -9: "killed", 137: "killed",
            75: "exit 75", None: "hung"}.get(code, f"exit {code}")


counter = itertools.count()


def inject(case, orders):
    """One run with the orders armed, then the same command without."""
    outcome = Outcome(case, orders)
    output = case.where / f"{case.name}-{next(counter)}"
    if any(order.startswith("journal_cut") for order in orders):  # needs a torn journal to begin with
        shutil.copytree(case.where / f"{case.name}-whole", output, symlinks=True)
        journal = output / "journal.jsonl"
        journal.write_bytes(journal.read_bytes()[:-700])
    command = [case.ini, "--output", output]
    code, text = sweeps.run(case.ranks, command, {"LVSWEEP_FAULT": ",".join(orders)})
    outcome.reached = len(set(re.findall(r"^fault: (\S+)", text, re.M)))
    outcome.seen, outcome.text = describe(code), text
    if code is None:
        outcome.faults.append("it hung")
    if outcome.reached:
        again, more = sweeps.run(case.ranks, command)
        outcome.text += "--- again\n" + more
        if again != 0:
            outcome.faults.append(f"the second run ended with {describe(again)}")
        else:
            outcome.faults += sweeps.differences(case.expected, output)
    if not outcome.faults:
        harness.clean(output)
    return outcome


def exhaust(case, point, action):
    """n = 1, 2, 3 … until the point is not reached any more; a brief case skips more and more of the later ones."""
    outcomes, passage = [], 1
    while passage < MAX_PASSAGE and time.time() - started < options.seconds:
        outcome = inject(case, [f"{point}:{passage}:{action}"])
        if not outcome.reached and not outcome.faults:
            break
        outcomes.append(outcome)
        passage += 1 if passage < case.every else passage
    return point, action, outcomes


def table_of_points():
    """(name, actions, sentence) as the program has them."""
    text = subprocess.run([harness.PROGRAM], capture_output=True, text=True, env={"LVSWEEP_FAULT": "list"}).stdout
    return [line.split("\t") for line in text.splitlines()]


def systematic(pool, cases):
    jobs = [pool.submit(exhaust, case, point, action)
            for case in cases for point, actions, _ in POINTS if point in case.points
            for action in actions.split() if action in case.actions]
    for job in concurrent.futures.as_completed(jobs):
        yield from job.result()[2]


def at_random(pool, cases, count, seed):
    """Few runs on three ranks: each start of mpirun takes as long as ten sweeps."""
    draw, done = random.Random(seed), 0
    weights = [case.weight for case in cases]
    while done < count:
        jobs = []
        for _ in range(64):
            case = draw.choices(cases, weights)[0]
            jobs.append(pool.submit(inject, case, [case.draw(draw) for _ in range(draw.randint(1, 3))]))
        for job in jobs:
            done += job.result().reached
            yield job.result()


def make_cases(where, long):
    """One process without mpirun for what rank 0 and a trainer do; three ranks for messages and the common file; the
    real runner for checkpoints, curves and adapters. A long run draws from all points of all three."""
    rank = {p for p, _, _ in POINTS}
    together = {"message_send", "message_receive", "results_together", "results_reserve"}
    device = {"allocate", "checkpoint_allocate", "checkpoint_read", "training", "evaluation", "adapter", "folder_make",
              "file_open", "file_write", "file_sync", "file_rename", "folder_sync"}
    every = {"kill", "exit", "error", "full", "short", "torn", "delay", "break"}
    brief = every if long else every - {"exit", "delay"}
    yield Case("fake", 0, sweeps.fake_ini(where), where, rank - together - device | {"folder_make"}, every, 5, 60)
    yield Case("ranks", 3, sweeps.fake_ini(where, name="ranks.ini"), where, rank - device if long else together, every,
               2, 4)
    yield Case("real", 0, sweeps.small_ini(where), where, rank - together if long else device, brief, 4, 36)


def write_table(path, outcomes, seconds, command):
    """Counts of what was seen after one fault alone; of runs with several, whether they differed."""
    seen, differs = collections.defaultdict(collections.Counter), collections.Counter()
    for outcome in outcomes:
        for order in outcome.orders if outcome.reached else []:
            point, _, action = order.split(":")
            if len(outcome.orders) == 1:
                seen[point, action][outcome.seen] += 1
            differs[point, action] += bool(outcome.faults)
    injected = sum(outcome.reached for outcome in outcomes)
    with open(path, "w", encoding="utf-8") as out:
        out.write(f"`{command}`: {injected} faults in {len(outcomes)} runs in {seconds:.0f} s, "
                  f"{sum(bool(o.faults) for o in outcomes)} differences.\n\n"
                  "| point | where | action | the faulty run | the same command again |\n|---|---|---|---|---|\n")
        for point, actions, about in POINTS:
            for action in actions.split():
                if seen[point, action]:
                    what = ", ".join(f"{count} × {text}" for text, count in seen[point, action].most_common())
                    after = f"{differs[point, action]} differ" if differs[point, action] else "finishes, equal numbers"
                    out.write(f"| {point} | {about} | {action} | {what} | {after} |\n")


parser = argparse.ArgumentParser()
parser.add_argument("--long", type=int, default=0, metavar="N")
parser.add_argument("--seed", type=int, default=1)
parser.add_argument("--jobs", type=int, default=3)
parser.add_argument("--least", type=int, default=300)
parser.add_argument("--table")
parser.add_argument("--log")
parser.add_argument("--orders", help="with --only: this run again, as the log has it")
parser.add_argument("--seconds", type=float, default=1e9, help="begin no new fault after so long")
parser.add_argument("--only", help="one case: fake, ranks, real")
options = parser.parse_args()
POINTS = table_of_points()
folder = harness.folder()
started = time.time()
chosen = [case for case in make_cases(folder, options.long > 0) if options.only in (None, case.name)]
outcomes, bad = [], 0
log = open(options.log, "w", encoding="utf-8") if options.log else None
with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
    if options.orders:
        runs = [inject(case, options.orders.split(",")) for case in chosen]
    else:
        runs = at_random(pool, chosen, options.long, options.seed) if options.long else systematic(pool, chosen)
    for result in runs:
        outcomes.append(result)
        if log:
            print(result.case.name, ",".join(result.orders), result.reached, result.seen,
                  "; ".join(result.faults) or "equal", sep="\t", file=log, flush=True)
        if result.faults:
            bad += 1
            print(f"{result.case.name} {','.join(result.orders)}: {result.seen}: {result.faults[:3]}\n{result.text}",
                  flush=True)
elapsed = time.time() - started
injected = sum(result.reached for result in outcomes)
print(f"{injected} faults injected in {elapsed:.0f} s, {bad} runs ended differently"
      + (f", seed {options.seed}" if options.long else ""))
for case in chosen:
    own = [result for result in outcomes if result.case is case]
    print(f"  {case.name}: {sum(result.reached for result in own)} faults, "
          + ", ".join(f"{count} {text}" for text, count in collections.Counter(r.seen for r in own).most_common()))
if options.table:
    write_table(options.table, outcomes, elapsed, "test_failpoints.py" + (f" --long {options.long} --seed {options.seed}" if options.long else ""))
if not bad:
    harness.clean(folder)
if bad or (not options.only and options.seconds == 1e9 and injected < options.least):
    sys.exit(f"{bad} differences; {injected} faults, at least {options.least} wanted; kept: {folder}")
