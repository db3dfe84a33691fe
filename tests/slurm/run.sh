#!/usr/bin/env bash
# A real SLURM on this machine alone: munged, slurmctld and three slurmd on loopback, as root and without systemd; then
# test_slurm.py with the shipped job scripts; then everything is taken down again. Nothing outside one temporary folder
# is touched, and no SLURM that runs here already: ports and sockets are its own.
#   apt-get install slurm-wlm munge
#   LVSWEEP_PROGRAM=build/lvsweep tests/slurm/run.sh [CASE …]
# Three nodes on one machine need two things that real nodes do not: a folder of temporary files each (TmpFS), and TCP
# between ranks (OMPI_MCA_btl), since "nodes" of one host would take each other's shared memory. Ranks outnumber cores
# here, so that those that wait yield.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
: "${LVSWEEP_PROGRAM:?set it to the lvsweep to test}"
LVSWEEP_PROGRAM=$(realpath "$LVSWEEP_PROGRAM")
for program in munged slurmctld slurmd sbatch; do
  command -v $program >/dev/null || { echo "run.sh: no $program: apt-get install slurm-wlm munge" >&2; exit 7; }
done
[ "$(id -u)" = 0 ] || { echo "run.sh: slurmd needs root" >&2; exit 7; }

work=$(mktemp -d /tmp/lvsweep-slurm-XXXXXX)
chmod 755 "$work"
mkdir "$work"/{munge,state,log,tmp}
nodes="node1 node2 node3"
port=${LVSWEEP_SLURM_PORT:-26817}

write_configuration() {
  cat >"$work/slurm.conf" <<CONF
ClusterName=lvsweep
SlurmctldHost=$(hostname)(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$work/munge/socket,cred_expire=10
SlurmctldPort=$port
SlurmctldPidFile=$work/slurmctld.pid
SlurmdPidFile=$work/slurmd.%n.pid
SlurmctldLogFile=$work/log/slurmctld
SlurmdLogFile=$work/log/%n
SlurmdSpoolDir=$work/spool.%n
TmpFS=$work/tmp/%n
StateSaveLocation=$work/state
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
SchedulerParameters=bf_interval=2,sched_interval=2,batch_sched_delay=1
JobRequeue=1
KillWait=5
ReturnToService=2
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
GresTypes=gpu
NodeName=node[1-3] NodeHostname=$(hostname) NodeAddr=127.0.0.1 Port=[$((port + 1))-$((port + 3))] CPUs=24 Gres=gpu:8
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
CONF
  touch "$work"/gpu{0..7} # names of devices that nobody opens
  for node in $nodes; do
    echo "NodeName=$node Name=gpu File=$work/gpu[0-7]"
    mkdir "$work/tmp/$node"
  done >"$work/gres.conf"
}

take_down() {
  scancel --state=PENDING --user=root 2>/dev/null || true
  scancel --user=root 2>/dev/null || true
  sleep 1
  for file in "$work"/slurmd.*.pid "$work"/slurmctld.pid "$work"/munge/pid; do
    if [ -f "$file" ]; then kill "$(cat "$file")" 2>/dev/null || true; fi
  done
  sleep 1
  if [ "${passed:-no}" = yes ]; then rm -rf "$work"; else echo "run.sh: kept $work" >&2; fi
}

export SLURM_CONF=$work/slurm.conf
write_configuration
trap take_down EXIT
(umask 077 && head -c 1024 /dev/urandom >"$work/munge/key")
munged --force --key-file="$work/munge/key" --socket="$work/munge/socket" --pid-file="$work/munge/pid" \
  --log-file="$work/munge/log" --seed-file="$work/munge/seed"
slurmctld
for node in $nodes; do slurmd -N "$node"; done
for _ in $(seq 30); do
  [ "$(sinfo --noheader --Node --states=idle 2>/dev/null | wc -l)" = 3 ] && break
  sleep 1
done
sinfo --Node --long
mkdir "$work/bin"
ln -s "$LVSWEEP_PROGRAM" "$work/bin/lvsweep"
export PATH=$work/bin:$PATH LVSWEEP_PROGRAM LVSWEEP_SOURCE=${LVSWEEP_SOURCE:-$(cd "$here/../.." && pwd)}
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_btl=self,tcp
export OMPI_MCA_mpi_yield_when_idle=1 PYTHONDONTWRITEBYTECODE=1
unset OMPI_MCA_rmaps_base_oversubscribe # as on a cluster: nine ranks of three tasks must be refused
python3 "$here/test_slurm.py" "$@" && passed=yes
