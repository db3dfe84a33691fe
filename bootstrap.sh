#!/usr/bin/env bash
# bootstrap.sh quickstart | test [--all] | build: installs what is missing (Debian 12, Ubuntu 24.04), builds, and does
# its job. Run again, it installs nothing.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
build=${LVSWEEP_BUILD:-$here/build}

build_packages=(build-essential cmake ninja-build pkg-config git ca-certificates
  libopenmpi-dev openmpi-bin libhdf5-openmpi-dev hdf5-tools libiniparser-dev libopenblas-dev libjansson-dev
  libxxhash-dev)
test_packages=(libcmocka-dev python3 python3-h5py python3-xarray python3-h5netcdf python3-netcdf4)
# What only `test --all` looks with: a browser for the report, pictures, plots, R, the site, zsh. What is not to be had is
# left out, and its tests are skipped by name.
look_packages=(chromium librsvg2-bin python3-matplotlib r-base-core r-cran-ncdf4 mkdocs zsh man-db)

say() { printf 'bootstrap: %s\n' "$*"; }

have_package() { dpkg-query -W -f '${Status}' "$1" 2>/dev/null | grep -q 'ok installed'; }

name_packages() {
  cat >&2 <<TEXT
bootstrap: this system has no apt. lvsweep needs, in the words of its own packages:
  a C17 compiler, CMake 3.22 or newer, Ninja, pkg-config, git
  Open MPI (or another MPI-3), parallel HDF5 with its high-level library built with that MPI,
  iniparser, OpenBLAS, Jansson, xxHash; for the tests cmocka and Python with h5py, xarray, h5netcdf, netCDF4
Load or install them (spack.yaml lists them too), then: cmake --preset release && cmake --build --preset release
TEXT
  exit 7
}

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"
  elif command -v sudo >/dev/null; then sudo "$@"
  else
    printf 'bootstrap: these packages are missing and need root (or sudo): %s\n' "${missing[*]}" >&2
    exit 7
  fi
}

install_missing() {
  command -v dpkg-query >/dev/null && command -v apt-get >/dev/null || name_packages
  missing=()
  for package in "$@"; do have_package "$package" || missing+=("$package"); done
  [ ${#missing[@]} = 0 ] && return 0
  say "installing ${missing[*]}"
  as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

# Like install_missing, without insisting.
install_wanted() {
  local wanted=() known=() package
  for package in "$@"; do have_package "$package" || wanted+=("$package"); done
  [ ${#wanted[@]} = 0 ] && return 0
  if [ "$(id -u)" != 0 ] && ! command -v sudo >/dev/null; then
    say "not installed (that needs root), so that their tests are skipped: ${wanted[*]}"
    return 0
  fi
  missing=("${wanted[@]}")
  as_root apt-get update -qq || true
  for package in "${wanted[@]}"; do
    if apt-cache policy "$package" | grep -q 'Candidate: [^(]'; then known+=("$package")
    else say "this system has no package $package: its tests are skipped"; fi
  done
  [ ${#known[@]} = 0 ] && return 0
  (install_missing "${known[@]}") || say "could not be installed, so that their tests are skipped: ${known[*]}"
}

# Open MPI refuses root and more ranks than cores unless told; both are normal on one machine.
mpi_environment() {
  export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1
  export OMPI_MCA_btl_base_warn_component_unused=0
  getent hosts "$(uname -n)" >/dev/null ||
    say "the name of this machine, $(uname -n), is not in /etc/hosts: every start of MPI may wait 5 s for it"
}

build_all() {
  cmake -S "$here" -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=RelWithDebInfo "$@" >"$build.log" 2>&1 ||
    { cat "$build.log" >&2; exit 1; }
  cmake --build "$build" >>"$build.log" 2>&1 || { tail -n 50 "$build.log" >&2; exit 1; }
  grep -E '^-- (CUDA|no CUDA)' "$build.log" || true
}

quickstart() {
  install_missing "${build_packages[@]}"
  say "building in $build"
  build_all -DLVS_TESTS=OFF
  mpi_environment
  cd "$here"
  [ -f sweeps/quickstart/data.h5 ] || "$build/lvsweep" simulate -o sweeps/quickstart/data.h5 --systems 60 --seed 1
  say "mpirun -n 3 lvsweep sweeps/quickstart.ini"
  mpirun -n 3 "$build/lvsweep" sweeps/quickstart.ini
}

run_tests() {
  install_missing "${build_packages[@]}" "${test_packages[@]}"
  local long=OFF
  if [ "${1:-}" = --all ]; then
    long=ON
    install_wanted "${look_packages[@]}"
  fi
  say "building in $build"
  build_all -DLVS_TESTS=ON -DLVS_LONG_TESTS=$long -DLVS_CUDA_ARCHITECTURES=90
  mpi_environment
  ctest --test-dir "$build" --output-on-failure
}

case ${1:-} in
quickstart) quickstart ;;
test) run_tests "${2:-}" ;;
build) install_missing "${build_packages[@]}" && build_all -DLVS_TESTS=OFF && say "built $build/lvsweep" ;;
*)
  echo "usage: ./bootstrap.sh quickstart | test [--all] | build" >&2
  exit 2
  ;;
esac
