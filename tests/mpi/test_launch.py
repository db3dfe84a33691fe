"""Launch mistakes: each is one sentence with its cure and exit 7; no trial is begun."""
import os
import shutil
import subprocess

import harness

where = harness.folder()
ini = where / "fake.ini"
ini.write_text(harness.FAKE_INI.format(fake=""))


def launch(*words, environment=None):
    done = subprocess.run(list(map(str, words)), env=dict(harness.ENVIRONMENT, **(environment or {})), text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120)
    return done.returncode, done.stdout


def refused(name, result, *phrases):
    code, text = result
    assert code == 7, (name, code, text)
    for phrase in phrases:
        assert phrase in text, (name, phrase, text)
    journal = where / "out/journal.jsonl"
    assert not journal.exists() or '"e":"assigned"' not in journal.read_text(), name
    print(f"{name}: exit 7")


sweep = [harness.PROGRAM, ini, "--output", where / "out"]

# Every process alone: srun without PMIx, and a launcher of another MPI.
refused("nine times rank 0 of 1, srun", launch(*sweep, environment={"SLURM_STEP_NUM_TASKS": "9"}),
        "9 processes each believe to be rank 0 of 1", "srun --mpi=pmix")
refused("nine times rank 0 of 1, mpiexec", launch(*sweep, environment={"PMI_SIZE": "9"}),
        "9 processes each believe to be rank 0 of 1", "which mpirun")

# Another version on another node.
other = where / "other"
program = harness.PROGRAM.read_bytes()
version = subprocess.run([harness.PROGRAM, "--version"], capture_output=True, text=True).stdout.split()[1].encode()
other.write_bytes(program.replace(version + b"\0", version[:-1] + b"9\0").replace(version + b" ", version[:-1] + b"9 "))
other.chmod(0o755)
refused("different versions", launch("mpirun", "-n", 1, *sweep, ":", "-n", 1, other, *sweep[1:]),
        "different versions of lvsweep", "Install one version on all nodes")

# A folder of the same name that is another folder: needs root and mount namespaces.
apart = ["unshare", "--mount", "sh", "-c", f'mount -t tmpfs none {where / "out"} && exec "$@"', "sh"]
(where / "out").mkdir()
if os.getuid() == 0 and launch(*apart, "true")[0] == 0:
    refused("output not shared", launch("mpirun", "-n", 1, *sweep, ":", "-n", 1, *apart, *sweep),
            "is not the folder that rank 0 writes to", "that all nodes share")
    # Rank 0 ends with the first refusal: those that still wait for it to take theirs must come to an end too.
    refused("output not shared, with messages that wait for their receiver",
            launch("mpirun", "--mca", "btl_vader_eager_limit", 256, "-n", 1, *sweep, ":", "-n", 3, *apart, *sweep),
            "is not the folder that rank 0 writes to")
    shutil.rmtree(where / "out")
else:
    print("output not shared: no mount namespaces here, not tried")
harness.clean(where)
