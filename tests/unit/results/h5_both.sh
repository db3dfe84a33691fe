#!/bin/sh
# h5_both.sh PROGRAM MPIEXEC RANKS…: the file written by one process and the one written by all ranks hold the same, for
# empty, small and uneven tables; where the folder is missing, every rank says so and none hangs.
set -eu
program=$1
mpiexec=$2
shift 2
command -v h5diff >/dev/null || { echo "skipped: h5diff (package hdf5-tools) is not installed"; exit 77; }
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1
export ASAN_OPTIONS="detect_leaks=0:${ASAN_OPTIONS:-}" # the MPI library keeps memory until the end
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
for ranks in "$@"; do
    for trials in 0 1 10; do
        rm -rf "$folder/out"
        mkdir "$folder/out"
        timeout 60 "$mpiexec" -n "$ranks" "$program" "$folder/out" "$trials"
        h5diff -c "$folder/out/serial.h5" "$folder/out/parallel.h5" >"$folder/diff" || { cat "$folder/diff"; exit 1; }
        if grep -v -e '^-*$' -e 'not comparable' -e 'Not comparable: .* is an empty dataset' "$folder/diff"; then exit 1; fi
        test "$(ls "$folder/out" | grep -c tmp)" = 0
    done
done
if timeout 60 "$mpiexec" -n 2 "$program" "$folder/missing" 3 together 2>"$folder/said"; then
    echo "a missing folder was accepted"
    exit 1
fi
test "$(grep -c "^rank [01]: .*cannot create" "$folder/said")" = 2
echo "equal on $* ranks"
