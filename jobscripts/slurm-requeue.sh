#!/usr/bin/env bash
# Any shape of job that stops in time and is queued again until it is done: size and time come from the command line.
#   sbatch --ntasks=9 --gpus=8 --time=08:00:00 jobscripts/slurm-requeue.sh grid.ini
#   sbatch --ntasks=3 --time=00:30:00 jobscripts/slurm-requeue.sh grid.ini --set run.backend=cpu
#SBATCH --job-name=lvsweep
#SBATCH --signal=B:USR1@180
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log

ini=${1:?usage: sbatch --ntasks=N --time=T slurm-requeue.sh grid.ini [options of lvsweep]}
shift
most_restarts=5

# Numbered as nvidia-smi does, so that names in results.h5 are those of the machine.
export CUDA_DEVICE_ORDER=PCI_BUS_ID

# The signal three minutes before the end reaches this shell, which passes it on: lvsweep writes checkpoints and
# exits with 75. A wait that the signal ended is begun again.
run="" signalled=""
trap 'signalled=1; [ -z "$run" ] || kill -USR1 "$run"' USR1
mpirun -n "${SLURM_NTASKS:-1}" lvsweep "$ini" "$@" & run=$!
until wait $run; code=$?; [ -z "$signalled" ]; do signalled=""; done

# 0 and 2-7 are final (done, or a mistake that another start repeats); a lost node ends with 1 or 137, a stop with 75.
case $code in 0 | 2 | 3 | 4 | 5 | 6 | 7) exit $code ;; esac
if [ "${SLURM_RESTART_COUNT:-0}" -lt $most_restarts ]; then
  echo "lvsweep ended with $code: requeued (restart $((${SLURM_RESTART_COUNT:-0} + 1)) of $most_restarts)"
  scontrol requeue "$SLURM_JOB_ID"
fi
exit $code
