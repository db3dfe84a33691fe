#!/usr/bin/env bash
# No scheduler: one machine, its GPUs or its cores. Root and more ranks than cores need the variables below.
#   jobscripts/single-node.sh grid.ini [RANKS]
set -euo pipefail
ini=${1:?usage: single-node.sh grid.ini [RANKS]}
ranks=${2:-3}
if [ "$(id -u)" = 0 ]; then export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1; fi
exec mpirun --oversubscribe -n "$ranks" lvsweep "$ini"
