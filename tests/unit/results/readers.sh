#!/bin/sh
# readers.sh PROGRAM MPIEXEC SCRIPT: results.h5 as h5dump, h5py and xarray (both engines) read it.
set -eu
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1
export ASAN_OPTIONS="detect_leaks=0:${ASAN_OPTIONS:-}" # the MPI library keeps memory until the end
python=${LVS_PYTHON:-/usr/bin/python3}
for module in h5py xarray h5netcdf netCDF4; do
    "$python" -c "import $module" 2>/dev/null ||
        { echo "skipped: python3 module $module (Debian: python3-h5py python3-xarray python3-h5netcdf python3-netcdf4) is not installed"; exit 77; }
done
command -v h5dump >/dev/null || { echo "skipped: h5dump (package hdf5-tools) is not installed"; exit 77; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
for trials in 0 19; do
    mkdir "$folder/$trials"
    timeout 60 "$2" -n 3 "$1" "$folder/$trials" "$trials"
    for file in serial parallel; do
        h5dump "$folder/$trials/$file.h5" >"$folder/dump"
        "$python" "$3" "$folder/$trials/$file.h5" "$trials"
    done
done
