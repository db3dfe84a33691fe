#!/usr/bin/env bash
# run.sh CLANG SOURCE BUILD SECONDS: builds every fuzz target with AddressSanitizer and UndefinedBehaviorSanitizer and
# runs each for so long from the corpus.
set -euo pipefail
clang=$1 source=$2 build=$3 seconds=$4
cmake -S "$source" -B "$build" -G Ninja -DCMAKE_C_COMPILER="$clang" -DLVS_FUZZ=ON -DLVS_CUDA=OFF \
  -DLVS_SANITIZE=address,undefined,fuzzer-no-link -DLVS_FUZZ_SECONDS="$seconds" >"$build.log" 2>&1 ||
  { cat "$build.log"; exit 1; }
cmake --build "$build" --target fuzz_targets >>"$build.log" 2>&1 || { tail -n 40 "$build.log"; exit 1; }
ctest --test-dir "$build" -L fuzz -j 2 --output-on-failure
