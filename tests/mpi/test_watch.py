"""Trials that really train: their loss comes to `watch` while they do, from trainer over worker and rank 0 to the
journal, and it is the loss that the same trial has at that step when nobody watches."""
import json
import signal
import time

import harness

STEPS = 1000000  # hours of training: the sweep is stopped, it never ends by itself
FEW = ["--set", "stage.search.learning_rate=1e-3"]


def look(output):
    """The workers' lines of `watch`, those with a loss."""
    if not (output / "journal.jsonl").exists():
        return []
    shown = json.loads(harness.run(0, "watch", output, "--once", "--json").stdout)
    return [worker for worker in shown["workers"] if worker["loss"] is not None]


def watch_two_workers(ini, output):
    running = harness.start(3, ini, "--output", output, *FEW, "--set", f"stage.search.steps={STEPS}")
    try:
        deadline = time.time() + 120
        seen = look(output)
        while len(seen) < 2 and running.poll() is None and time.time() < deadline:
            time.sleep(0.2)
            seen = look(output)
        assert running.poll() is None, running.communicate()
    finally:
        running.send_signal(signal.SIGTERM)
        running.communicate(timeout=120)
    return seen


where = harness.folder()
try:
    ini = harness.tiny_sweep(where)
    seen = watch_two_workers(ini, where / "watched")
    assert len(seen) == 2, f"losses of two workers were waited for: {seen}"
    for worker in seen:
        assert 0 < worker["step"] < STEPS and worker["n_steps"] == STEPS, worker
        rank = worker["trial"].split("-")[0].removeprefix("r")
        alone = where / f"alone-{rank}"
        harness.run(0, ini, "--output", alone, *FEW, "--set", f"stage.search.rank={rank}", "--set",
                    f"stage.search.steps={worker['step']}", "--set", "stage.final.steps=1")
        trained = [row for row in harness.table(alone) if row["trial_stage"] == "search"]
        assert len(trained) == 1 and abs(float(trained[0]["train_loss_last"]) - worker["loss"]) < 1e-12, \
            (worker, trained[0]["train_loss_last"])
        print(f"worker {worker['worker']}: {worker['trial']} step {worker['step']}, loss {worker['loss']}")
finally:
    harness.clean(where)
