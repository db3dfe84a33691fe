#!/usr/bin/env bash
# A heterogeneous job: rank 0 coordinates on any core of the cluster, eight ranks own the 8 GPUs of a node.
#   sbatch jobscripts/slurm-heterogeneous.sh grid.ini
# One srun over both components makes one MPI job; mpirun would see the first only. Needs a SLURM with PMIx.
#SBATCH --job-name=lvsweep
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=2
#SBATCH --time=08:00:00
#SBATCH --signal=B:USR1@180
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log
#SBATCH hetjob
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=2
#SBATCH --time=08:00:00

ini=${1:?usage: sbatch slurm-heterogeneous.sh grid.ini}
most_restarts=5

# Numbered as nvidia-smi does, so that names in results.h5 are those of the machine.
export CUDA_DEVICE_ORDER=PCI_BUS_ID

# The signal three minutes before the end reaches this shell, which passes it on: lvsweep writes checkpoints and
# exits with 75. A wait that the signal ended is begun again.
run="" signalled=""
trap 'signalled=1; [ -z "$run" ] || kill -USR1 "$run"' USR1
srun --mpi=pmix --het-group=0,1 lvsweep "$ini" --set run.coordinator=own_rank --set run.backend=cuda & run=$!
until wait $run; code=$?; [ -z "$signalled" ]; do signalled=""; done

# 0 and 2-7 are final (done, or a mistake that another start repeats); a lost node ends with 1 or 137, a stop with 75.
case $code in 0 | 2 | 3 | 4 | 5 | 6 | 7) exit $code ;; esac
if [ "${SLURM_RESTART_COUNT:-0}" -lt $most_restarts ]; then
  echo "lvsweep ended with $code: requeued (restart $((${SLURM_RESTART_COUNT:-0} + 1)) of $most_restarts)"
  scontrol requeue "$SLURM_JOB_ID"
fi
exit $code
