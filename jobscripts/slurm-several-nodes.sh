#!/usr/bin/env bash
# Two nodes, 4 GPUs each: eight ranks, each owns a GPU, and rank 0 coordinates beside its own work.
#   sbatch jobscripts/slurm-several-nodes.sh grid.ini
# The output folder must lie on a file system that both nodes share: lvsweep says so in a sentence when it does not.
#SBATCH --job-name=lvsweep
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=2
#SBATCH --time=08:00:00
#SBATCH --signal=B:USR1@180
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log

ini=${1:?usage: sbatch slurm-several-nodes.sh grid.ini}
most_restarts=5

# Numbered as nvidia-smi does, so that names in results.h5 are those of the machine.
export CUDA_DEVICE_ORDER=PCI_BUS_ID

# The signal three minutes before the end reaches this shell, which passes it on: lvsweep writes checkpoints and
# exits with 75. A wait that the signal ended is begun again.
run="" signalled=""
trap 'signalled=1; [ -z "$run" ] || kill -USR1 "$run"' USR1
mpirun -n "$SLURM_NTASKS" lvsweep "$ini" --set run.coordinator=shared & run=$!
until wait $run; code=$?; [ -z "$signalled" ]; do signalled=""; done

# 0 and 2-7 are final (done, or a mistake that another start repeats); a lost node ends with 1 or 137, a stop with 75.
case $code in 0 | 2 | 3 | 4 | 5 | 6 | 7) exit $code ;; esac
if [ "${SLURM_RESTART_COUNT:-0}" -lt $most_restarts ]; then
  echo "lvsweep ended with $code: requeued (restart $((${SLURM_RESTART_COUNT:-0} + 1)) of $most_restarts)"
  scontrol requeue "$SLURM_JOB_ID"
fi
exit $code
