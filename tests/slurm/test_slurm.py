#!/usr/bin/env python3
"""The shipped job scripts under a real SLURM, as run.sh sets it up: they finish; a job that is out of time, killed or
requeued by hand is queued again and ends with an undisturbed sweep's numbers; what cannot be mended is not queued again.

Arguments: names of cases (all)."""
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "fault"))
import sweeps
from sweeps import harness

SCRIPTS = harness.SOURCE / "jobscripts"
FOLDER = harness.folder()


def show(job):
    """What scontrol says of a job, as a dictionary."""
    text = subprocess.run(["scontrol", "--oneliner", "show", "job", job], capture_output=True, text=True).stdout
    return dict(re.findall(r"(\w+)=(\S*)", text.splitlines()[0] if text else ""))


class Job:
    def __init__(self, script, *arguments, options=(), environment=None):
        self.log = FOLDER / f"{time.time():.3f}.log"
        words = ["sbatch", "--parsable", f"--output={self.log}", *options, script, *map(str, arguments)]
        done = subprocess.run(words, cwd=FOLDER, capture_output=True, text=True,
                              env=dict(os.environ, **(environment or {})))
        if done.returncode != 0:
            sys.exit(f"{words}: {done.stderr}")
        self.number, self.began = done.stdout.split(";")[0].strip(), time.time()

    def text(self):
        return self.log.read_text() if self.log.exists() else ""

    def wait(self, seconds=600, hurry=False):
        """Until it is over for good: (state, exit code, restarts). A job that was queued again waits two minutes; with
        hurry it need not."""
        while time.time() - self.began < seconds:
            facts = show(self.number)
            if hurry and facts["JobState"] == "PENDING" and facts["Restarts"] != "0":
                time.sleep(5)  # the node may still clear away the start before
                subprocess.run(["scontrol", "update", f"JobId={self.number}", "StartTime=now"], capture_output=True)
            if facts["JobState"] in ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL"):
                return facts["JobState"], int(facts["ExitCode"].split(":")[0]), int(facts["Restarts"])
            time.sleep(1)
        sys.exit(f"job {self.number} did not end in {seconds} s: {facts}\n{self.text()}")


def expect(job, state, code, restarts=0, hurry=False):
    got = job.wait(hurry=hurry)
    if got != (state, code, restarts):
        sys.exit(f"job {job.number} ended as {got}, not {(state, code, restarts)}\n{job.text()}")


def report(name, job, note=""):
    facts = show(job.number)
    print(f"{name}: job {job.number} {facts['JobState']}, exit {facts['ExitCode']}, {facts['Restarts']} restarts, "
          f"{time.time() - job.began:.0f} s{'; ' if note else ''}{note}", flush=True)


def training_ini():
    """Real training: some twenty seconds on two workers of a quiet machine, minutes on a busy one."""
    ini = harness.tiny_sweep(FOLDER, rank="2, 8", learning_rate="1e-3", steps="500", final="700")
    ini.write_text(ini.read_text().replace("threads = 1", "threads = 1\ncheckpoint_every = 3s"))
    return ini


def undisturbed(ini):
    output = FOLDER / "undisturbed"
    if not output.exists():
        harness.run(3, ini, "--output", output, timeout=900,
                    environment={"OMPI_MCA_rmaps_base_oversubscribe": "1"})
    return sweeps.results(output)


def fake_ini(name):
    ini = FOLDER / f"{name}.ini"
    ini.write_text(harness.FAKE_INI.format(fake="step:2e-3") + "[budget]\nflops = 1e15\n")
    return ini


def case_smoke():
    ini = fake_ini("smoke")
    job = Job(SCRIPTS / "slurm-cpu-smoke.sh", ini)
    expect(job, "COMPLETED", 0)
    assert "no problem found" in job.text() and len(harness.table(FOLDER / "smoke.lvsweep")) == 10
    report("slurm-cpu-smoke.sh", job)


def case_one_node():
    job = Job(SCRIPTS / "slurm-one-node.sh", fake_ini("one"))
    expect(job, "COMPLETED", 0)
    workers = {row["worker"] for row in harness.table(FOLDER / "one.lvsweep")}
    assert workers <= {str(rank) for rank in range(1, 9)} and len(workers) > 4, workers
    report("slurm-one-node.sh", job, f"9 ranks, {len(workers)} workers took trials")


def case_several_nodes():
    job = Job(SCRIPTS / "slurm-several-nodes.sh", fake_ini("several"))
    expect(job, "COMPLETED", 0)
    workers = {row["worker"] for row in harness.table(FOLDER / "several.lvsweep")}
    assert len(workers) > 4, workers
    report("slurm-several-nodes.sh", job, f"2 nodes, 8 ranks, {len(workers)} workers took trials, rank 0 "
           + ("too" if "0" in workers else "none"))


def case_heterogeneous():
    job = Job(SCRIPTS / "slurm-heterogeneous.sh", fake_ini("heterogeneous"))
    expect(job, "COMPLETED", 0)
    workers = {row["worker"] for row in harness.table(FOLDER / "heterogeneous.lvsweep")}
    assert "0" not in workers and len(workers) > 4, workers
    report("slurm-heterogeneous.sh", job, f"2 components, 9 ranks by one srun, {len(workers)} workers took trials")


def same_numbers(output, expected):
    faults = sweeps.differences(expected, output)
    if faults:
        sys.exit(f"{output}: {faults}")


def case_time_limit():
    """The signal before the end: checkpoints, exit 75, requeued, equal numbers."""
    ini = training_ini()
    expected, output = undisturbed(ini), FOLDER / "limited"
    job = Job(SCRIPTS / "slurm-requeue.sh", ini, "--output", output,
              options=["--ntasks=3", "--time=1", "--signal=B:USR1@45"])
    state, code, restarts = job.wait(1200)
    text = job.text()
    if (state, code) != ("COMPLETED", 0) or restarts < 1 or "goes on from its checkpoint" not in text:
        sys.exit(f"{state} {code} {restarts}\n{text}")
    same_numbers(output, expected)
    report("slurm-requeue.sh, signal 45 s before a limit of one minute", job,
           f"{text.count('goes on from its checkpoint')} trials went on from checkpoints, numbers equal")


def case_deadline():
    """No signal: the job's end is asked of SLURM, and the sweep stops itself in time."""
    script = FOLDER / "deadline.sh"
    script.write_text('#!/bin/bash\nmpirun -n "$SLURM_NTASKS" lvsweep "$@"\n')
    job = Job(script, training_ini(), "--set", "stage.search.steps=6000", "--output", FOLDER / "deadline",
              options=["--ntasks=3", "--time=1"])
    expect(job, "FAILED", 75)
    assert "the job ends at" in job.text() and "the time limit is near" in job.text(), job.text()
    report("no signal, limit of one minute", job, "stopped itself: the end was asked of scontrol")


def wait_for_work(output):
    journal = output / "journal.jsonl"
    while not (journal.exists() and '"e":"assigned"' in journal.read_text()):
        time.sleep(0.2)
    time.sleep(5)


def rank_process(output, rank):
    """The rank itself: its helper and trainer, with the same environment, came later."""
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        try:
            if (entry.name.isdigit() and str(output).encode() in (entry / "cmdline").read_bytes()
                    and f"OMPI_COMM_WORLD_RANK={rank}\0".encode() in (entry / "environ").read_bytes()):
                found.append(int(entry.name))
        except OSError:
            continue
    return min(found)


def case_killed_rank():
    """A rank dies: the job ends with what mpirun makes of it, is queued again and finishes."""
    ini = training_ini()
    expected, output = undisturbed(ini), FOLDER / "killed"
    job = Job(SCRIPTS / "slurm-requeue.sh", ini, "--output", output, options=["--ntasks=3", "--time=20"])
    wait_for_work(output)
    os.kill(rank_process(output, 2), signal.SIGKILL)
    expect(job, "COMPLETED", 0, 1)
    same_numbers(output, expected)
    report("slurm-requeue.sh, a rank killed", job, re.findall(r"lvsweep ended with .*", job.text())[0])


def case_requeued():
    """An administrator requeues the running job: the lock of the first start is known to be stale."""
    ini = training_ini()
    expected, output = undisturbed(ini), FOLDER / "requeued"
    job = Job(SCRIPTS / "slurm-requeue.sh", ini, "--output", output, options=["--ntasks=3", "--time=20"])
    wait_for_work(output)
    subprocess.run(["scontrol", "requeue", job.number], check=True)
    expect(job, "COMPLETED", 0, 1)
    same_numbers(output, expected)
    report("slurm-requeue.sh, scontrol requeue in the middle", job, "numbers equal")


def case_final():
    """A mistake that another start repeats is not queued again."""
    ini = FOLDER / "wrong.ini"
    ini.write_text(harness.FAKE_INI.format(fake="") + "[train]\nbach = 4\n")
    job = Job(SCRIPTS / "slurm-requeue.sh", ini, options=["--ntasks=3", "--time=5"])
    expect(job, "FAILED", 2)
    assert "batch" in job.text()
    report("slurm-requeue.sh, a mistake in the INI", job, "not queued again")


def case_hopeless():
    """What ends the same way at every start is queued again five times, and no more."""
    job = Job(SCRIPTS / "slurm-requeue.sh", fake_ini("hopeless"), options=["--ntasks=3", "--time=5"],
              environment={"LVSWEEP_FAULT": "event_assigned:1:kill"})
    expect(job, "FAILED", 137, 5, hurry=True)
    assert job.text().count("lvsweep ended with 137: requeued") == 5, job.text()
    report("slurm-requeue.sh, rank 0 killed at every start", job)


def case_mistakes():
    """srun without PMIx, and more ranks than tasks."""
    script = FOLDER / "mistakes.sh"
    ini = fake_ini("mistakes")
    script.write_text(f"""#!/bin/bash
srun --mpi=none -n 3 lvsweep {ini} >/dev/null 2>&1; echo "srun without PMIx: exit $?"
srun --mpi=none -n 3 env -u SLURM_STEPID -u SLURM_STEP_ID lvsweep {ini}; echo "alone thrice: exit $?"
mpirun -n 9 lvsweep {ini}; echo "nine of three slots: exit $?"
""")
    job = Job(script, options=["--ntasks=3"])
    job.wait()
    text = job.text()
    assert not (FOLDER / "mistakes.lvsweep").exists(), "nothing was started"
    assert "srun without PMIx: exit 1" in text and "alone thrice: exit 7" in text, text
    assert "3 processes each believe to be rank 0 of 1" in text and "srun --mpi=pmix" in text, text
    assert "not enough slots" in text, text
    report("launch mistakes", job, "srun without PMIx, three times rank 0 of 1, nine ranks of three tasks: none started")


CASES = {name.removeprefix("case_"): case for name, case in list(globals().items()) if name.startswith("case_")}
for wanted in sys.argv[1:] or CASES:
    CASES[wanted]()
harness.clean(FOLDER)
