#!/usr/bin/env bash
# Three CPU ranks for a few minutes: does the installation work on this cluster?
#   sbatch jobscripts/slurm-cpu-smoke.sh sweeps/quickstart.ini
#SBATCH --job-name=lvsweep-smoke
#SBATCH --nodes=1
#SBATCH --ntasks=3
#SBATCH --cpus-per-task=1
#SBATCH --time=00:10:00
#SBATCH --output=%x-%j.log

ini=${1:?usage: sbatch slurm-cpu-smoke.sh sweeps/quickstart.ini}
mpirun -n "$SLURM_NTASKS" lvsweep doctor
mpirun -n "$SLURM_NTASKS" lvsweep "$ini" --set run.backend=cpu
