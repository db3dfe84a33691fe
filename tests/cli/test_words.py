"""Help, manual page and completion: they fit, agree with each other and with what the subcommands accept."""
import re
import shutil
import subprocess
import tempfile

import harness


def say(*words, expect=0):
    return harness.run(0, *words, expect=expect).stdout


overview = say("--help")
assert max(map(len, overview.splitlines())) <= 80, "fits a terminal"
names = re.findall(r"^  (\w+) +\w", overview.split("alone\n\n")[1].split("\n\nlvsweep COMMAND")[0], re.M)
for name in ("run plan check evaluate watch report export best forecast simulate import describe flops bench init "
             "jobscript doctor cite completion").split():
    assert name in names, name

man, bash, zsh = say("help", "--man"), say("completion", "bash"), say("completion", "zsh")
checked = 0
for name in names:
    text = say(name, "--help") if name not in ("version",) else say("help", name)
    lines = text.splitlines()
    assert max(map(len, lines)) <= 79 and len(lines) <= 23, (name, "fits a screen of 24 lines of 80, with the prompt")
    assert f".SS {name}" in man and f"'{name}:" in zsh
    line = re.search(rf"^    {name}\) options=\"(.*)\" ;;$", bash, re.M).group(1).split()
    for option in line:
        assert option == "--help" or option in text, (name, option)
        if option in ("--help", "--man") or name == "help":
            continue
        # An option of the help text that getopt does not know would be called unknown; the word after it is refused,
        # so that nothing runs.
        done = harness.run(0, name, option, "--nothing", expect=None, timeout=30)
        assert f"unknown option {option}" not in done.stderr, (name, option, done.stderr)
        checked += 1
assert checked > 80, checked
assert "unknown option --nothing" in harness.run(0, "plan", "--nothing", expect=2).stderr
assert "did you mean --json?" in harness.run(0, "plan", "--jsn", expect=2).stderr
assert "did you mean plan?" in harness.run(0, "paln", expect=2).stderr

for shell, text in (("bash", bash), ("zsh", zsh)):
    if not shutil.which(shell):
        print(f"skipped: no {shell}")
        continue
    with tempfile.NamedTemporaryFile("w", suffix="." + shell) as file:
        file.write(text)
        file.flush()
        subprocess.run([shell, "-n", file.name], check=True)
        if shell == "bash":
            answer = subprocess.run(["bash", "-c", f". {file.name}; COMP_WORDS=(lvsweep plan --j); COMP_CWORD=2; "
                                     "_lvsweep; echo ${COMPREPLY[@]}"], text=True, stdout=subprocess.PIPE).stdout
            assert answer.strip() == "--json", answer
if shutil.which("man"):
    with tempfile.NamedTemporaryFile("w", suffix=".1") as file:
        file.write(man)
        file.flush()
        done = subprocess.run(["man", "--warnings", "-l", file.name], text=True, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, env=dict(harness.ENVIRONMENT, MANWIDTH="80"))
        if "minimized" in done.stdout:
            print("skipped: this system's man only says that manual pages were left out")
        else:
            assert done.returncode == 0 and "EXIT STATUS" in done.stdout, done.stderr
            assert "warning" not in done.stderr, done.stderr
            assert max(map(len, re.sub(".\b", "", done.stdout).splitlines())) <= 80, "the manual page fits 80 columns"
assert "bash or zsh" in harness.run(0, "completion", "fish", expect=2).stderr
print(f"{len(names)} subcommands, {checked} options in help, manual and completion are accepted")
