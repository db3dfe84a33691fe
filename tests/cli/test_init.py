"""lvsweep init: template, presets, and the questions on a terminal."""
import os
import pty
import select
import subprocess
import time

import harness


def ask(where, answers, *words):
    """Answers on a pseudo-terminal; what was printed there and the exit code."""
    leader, follower = pty.openpty()
    process = subprocess.Popen([str(harness.PROGRAM), "init", *words], cwd=where, stdin=follower, stdout=follower,
                               stderr=follower, close_fds=True)
    os.close(follower)
    seen, sent, deadline = b"", 0, time.time() + 60
    while time.time() < deadline:
        ready, _, _ = select.select([leader], [], [], 0.2)
        if ready:
            try:
                block = os.read(leader, 4096)
            except OSError:
                break
            if not block:
                break
            seen += block
        if seen.count(b"]: ") > sent and sent < len(answers):
            os.write(leader, answers[sent].encode() + b"\n")
            sent += 1
    os.close(leader)
    return seen.decode(), process.wait(timeout=30)


where = harness.folder()
try:
    # Not a terminal: the keys that everyone sets; --all: every key; both parse.
    for more in ([], ["--all"]):
        name = where / f"plain{len(more)}.ini"
        harness.run(0, "init", "-o", name, *more)
        done = harness.run(0, "plan", name, expect=None)
        assert "unknown" not in done.stderr and done.returncode in (0, 2, 5), done.stderr
    assert "exists already" in harness.run(0, "init", "-o", name, expect=6).stderr

    # Questions: defaults, own answers, one that is refused and asked again.
    printed, code = ask(where, ["own.h5", "model", "2, x", "2, 4", "", "128", "", "0", "none"], "-o", "asked.ini")
    assert code == 0 and "next: lvsweep plan asked.ini" in printed, printed
    assert "rank" in printed and printed.count("LoRA ranks") == 2, printed
    text = (where / "asked.ini").read_text()
    assert "file = own.h5" in text and "rank = 2, 4" in text and "learning_rate = 1e-5, 5e-5, 1e-4" in text, text
    assert "context = 128" in text and "[stage.final]" not in text and "flops = none" in text, text
    printed, code = ask(where, ["", "", "", "", "", "", ""], "--data", "d.h5", "-o", "defaults.ini")
    assert code == 0, printed
    text = (where / "defaults.ini").read_text()
    assert "file = d.h5" in text and "from = best" in text and "flops = 1e17" in text, text

    # Presets: files beside them by absolute path, data and model replaced when given.
    harness.run(0, "simulate", "-o", where / "data.h5", "--systems", "24", "--seed", "3")
    harness.run(0, "init", "--preset", "quickstart", "--data", where / "data.h5", "-o", where / "quick.ini")
    text = (where / "quick.ini").read_text()
    assert f"path = {harness.SOURCE}/sweeps/quickstart/model" in text and f"file = {where}/data.h5" in text, text
    harness.run(0, "plan", where / "quick.ini")
    done = harness.run(0, "init", "--preset", "nothing", expect=2)
    assert "nothing: no preset has that name; there are " in done.stderr and "quickstart" in done.stderr, done.stderr
    assert "quickstart" in harness.run(0, "init", "--preset", "../quickstart", expect=2).stderr
    for preset in sorted((harness.SOURCE / "sweeps/reproduce").glob("*.ini")):
        assert preset.stem in done.stderr.replace(",", "").split(), preset
        text = harness.run(0, "init", "--preset", preset.stem, "--model", "hf:a/b").stdout
        assert "path = hf:a/b" in text and "split = file:splits" not in text, text
    print("init: templates, questions and presets as stated")
finally:
    harness.clean(where)
