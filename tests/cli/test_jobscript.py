"""lvsweep jobscript: scripts that bash accepts, that ask for what was said, and that requeue when they should."""
import os
import shutil
import subprocess

import harness


def script(*words, expect=0):
    done = harness.run(0, "jobscript", *words, expect=expect)
    return done.stdout if expect == 0 else done.stderr


def directives(text):
    return {line for line in text.splitlines() if line.startswith(("#SBATCH", "#PBS"))}


def stand_in(folder, name, body):
    """A command of the cluster that is not here."""
    path = folder / name
    path.write_text("#!/bin/bash\n" + body)
    path.chmod(0o755)


def play(text, where, code, restarts=0):
    """Runs a script where mpirun ends with `code`; what the scheduler was told, and the script's own code."""
    stand_in(where, "mpirun", f"echo mpirun $@ >> {where}/told; exit {code}\n")
    stand_in(where, "scontrol", f"echo scontrol $@ >> {where}/told\n")
    stand_in(where, "qsub", f"echo qsub $@ >> {where}/told\n")
    (where / "told").write_text("")
    environment = dict(os.environ, PATH=f"{where}:{os.environ['PATH']}", SLURM_NTASKS="9", SLURM_JOB_ID="42",
                       SLURM_RESTART_COUNT=str(restarts), LVSWEEP_RESTARTS=str(restarts), PBS_O_WORKDIR=str(where))
    done = subprocess.run(["bash", "-c", text], env=environment, cwd=where, stdout=subprocess.PIPE)
    return (where / "told").read_text(), done.returncode


where = harness.folder()
try:
    ini = where / "grid.ini"
    ini.write_text("[data]\nfile = d.h5\n[model]\npath = m\n[stage.search]\nrank = 2\nlearning_rate = 1e-4\n"
                   "[budget]\nflops = none\n")
    one = script(ini, "--gpus-per-node", "8", "--time", "08:00:00")
    shipped = (harness.SOURCE / "jobscripts/slurm-one-node.sh").read_text()
    assert directives(one) == directives(shipped), directives(one) ^ directives(shipped)
    assert one[one.index("trap"):] == shipped[shipped.index("trap"):], "the part that requeues"

    several = script(ini, "--nodes", "2", "--gpus-per-node", "4", "--time", "08:00:00")
    mixed = script(ini, "--heterogeneous", "--time", "08:00:00")
    for text, name in ((several, "slurm-several-nodes.sh"), (mixed, "slurm-heterogeneous.sh")):
        file = (harness.SOURCE / "jobscripts" / name).read_text()
        assert [line for line in text.splitlines() if line.startswith("#SBATCH")] == [
            line for line in file.splitlines() if line.startswith("#SBATCH")], name
        assert text[text.index("trap"):] == file[file.index("trap"):], name
    pbs_file = (harness.SOURCE / "jobscripts/pbs-one-node.sh").read_text()
    pbs_one = script(ini, "--scheduler", "pbs", "--time", "8:00:00")
    assert directives(pbs_one) == directives(pbs_file)
    assert "mpirun -n 9 lvsweep \"$ini\" --set run.time_limit=28620s" in pbs_one and "28620s" in pbs_file
    assert "scontrol requeue 42" in play(mixed.replace("srun --mpi=pmix", "mpirun"), where, 137)[0]

    two = script(ini, "--nodes", "2", "--gpus-per-node", "4", "--partition", "gpu", "--account", "a1", "--time",
                 "1-12:00:00", "--launcher", "srun")
    assert {"#SBATCH --nodes=2", "#SBATCH --ntasks-per-node=4", "#SBATCH --gpus-per-node=4", "#SBATCH --partition=gpu",
            "#SBATCH --account=a1", "#SBATCH --time=1-12:00:00"} <= directives(two)
    assert "srun --mpi=pmix" in two and "run.coordinator=shared" in two
    cores = script(ini, "--gpus-per-node", "0", "--ranks-per-node", "6")
    assert "gpus" not in "".join(directives(cores)) and "run.backend=cpu" in cores and "CUDA" not in cores
    pbs = script(ini, "--scheduler", "pbs", "--nodes", "2", "--gpus-per-node", "4", "--time", "10:00:00")
    assert "#PBS -l select=2:ncpus=8:mpiprocs=4:ngpus=4" in directives(pbs) and "run.time_limit=35820s" in pbs
    for text in (one, two, cores, pbs, several, mixed):
        subprocess.run(["bash", "-n", "-c", text], check=True)
    for file in (harness.SOURCE / "jobscripts").glob("*.sh"):
        subprocess.run(["bash", "-n", file], check=True)
    if shutil.which("shellcheck"):
        subprocess.run(["shellcheck", *(harness.SOURCE / "jobscripts").glob("*.sh"), harness.SOURCE / "tests/slurm/run.sh"],
                       check=True)
        for number, text in enumerate((one, two, cores, pbs, several, mixed)):
            (where / f"{number}.sh").write_text(text)
        subprocess.run(["shellcheck", *where.glob("?.sh")], check=True)

    # Codes that another start repeats are final; a stop and a lost node are queued again, five times at most.
    for code in (0, 2, 3, 4, 5, 6, 7):
        told, ended = play(one, where, code)
        assert ended == code and "requeue" not in told and "mpirun -n 9 lvsweep" in told, (code, told)
        assert "qsub" not in play(pbs, where, code)[0]
    for code in (1, 75, 137):
        told, ended = play(one, where, code)
        assert ended == code and "scontrol requeue 42" in told, (code, told)
        assert "scontrol" not in play(one, where, code, restarts=5)[0]
        assert "qsub -v LVSWEEP_RESTARTS=3" in play(pbs, where, code, restarts=2)[0]

    # The command in the script's second line writes the same script.
    for words in (["--partition", "gpu", "--account", "a1", "--nodes", "2"], ["--gpus-per-node", "0", "--ranks-per-node", "6"],
                  ["--cores-per-rank", "4", "--name", "own", "--launcher", "srun", "--time", "1-12:00:00"],
                  ["--scheduler", "pbs", "--partition", "q", "--gpus-per-node", "2"], ["--heterogeneous"], []):
        text = script(ini, *words)
        line = text.splitlines()[1]
        assert line.startswith("# Written by: lvsweep jobscript "), line
        assert script(*line.split()[5:]) == text, (words, line)

    harness.run(0, "jobscript", ini, "-o", where / "job.sh")
    assert os.access(where / "job.sh", os.X_OK)
    for words, code, cause in [((ini, "--time", "8h"), 2, "H:MM:SS"), ((ini, "--nodes", "0"), 2, "--nodes"),
                               ((ini, "--partition", "a;b"), 2, "--partition"), ((ini, "--scheduler", "lsf"), 2, "slurm"),
                               ((ini, "--scheduler", "pbs", "--launcher", "srun"), 2, "mpirun"),
                               ((ini, "--scheduler", "pbs", "--heterogeneous"), 2, "SLURM"),
                               ((ini, "--gpus-per-node", "0", "--heterogeneous"), 2, "GPUs"),
                               ((where / "none.ini",), 2, "none.ini")]:
        assert cause in script(*words, expect=code), words
    print("jobscript: directives, requeueing and refusals as stated")
finally:
    harness.clean(where)
