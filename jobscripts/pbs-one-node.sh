#!/usr/bin/env bash
# PBS: one node, 8 GPUs; rank 0 coordinates, ranks 1-8 own a GPU each.
#   qsub -v INI=grid.ini jobscripts/pbs-one-node.sh
#PBS -N lvsweep
#PBS -l select=1:ncpus=18:mpiprocs=9:ngpus=8
#PBS -l walltime=8:00:00
#PBS -j oe

cd "$PBS_O_WORKDIR" || exit 7
ini=${INI:?usage: qsub -v INI=grid.ini pbs-one-node.sh}
most_restarts=5
restarts=${LVSWEEP_RESTARTS:-0}

# Numbered as nvidia-smi does, so that names in results.h5 are those of the machine.
export CUDA_DEVICE_ORDER=PCI_BUS_ID

# PBS tells nobody when the time ends: lvsweep stops by itself, with checkpoints and code 75.
mpirun -n 9 lvsweep "$ini" --set run.time_limit=28620s; code=$?

# 0 and 2-7 are final (done, or a mistake that another start repeats).
case $code in 0 | 2 | 3 | 4 | 5 | 6 | 7) exit $code ;; esac
if [ "$restarts" -lt $most_restarts ]; then
  echo "lvsweep ended with $code: submitted again (restart $((restarts + 1)) of $most_restarts)"
  qsub -v INI="$ini",LVSWEEP_RESTARTS=$((restarts + 1)) "$0"
fi
exit $code
