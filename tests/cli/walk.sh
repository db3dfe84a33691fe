#!/usr/bin/env bash
# A newcomer's first hour, as docs/getting-started.md tells it, in an empty folder: walk.sh BUILD FOLDER EXAMPLES.
# Installs, runs the quickstart, looks at it, changes the grid, kills and resumes, exports, forecasts a CSV, and loads
# the adapter in peft where a Python has it (LVS_PYTHON_PEFT, else python3). What it leaves in FOLDER is read by the
# tests of docs/examples.
set -euo pipefail
build=$1 folder=$2 examples=$3
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1
export OMPI_MCA_btl_base_warn_component_unused=0
[ -f "$folder/.walk" ] && rm -rf "$folder" # only what an earlier walk left
mkdir -p "$folder"
touch "$folder/.walk"
cd "$folder"

step() { printf '\n--- %s (%d s)\n' "$*" "$SECONDS"; }
fail() { printf 'FAILED: %s\n' "$*" >&2; exit 1; }
expect() { grep -q -e "$1" "$2" || { cat "$2" >&2; fail "$2 does not say: $1"; }; }
# finished: name and end of every trial that was trained, in the present grid or not
finished() {
  lvsweep export quickstart.lvsweep --csv | awk -F, '
    NR == 1 { for (i = 1; i <= NF; i++) at[$i] = i; next }
    $at["status"] ~ /^(done|superseded)$/ && $at["end_time"] != "" { print $at["name"], $at["end_time"] }' | sort
}

step install
cmake --install "$build" --prefix "$folder/prefix" >install.log
PATH=$folder/prefix/bin:$PATH
[ "$(command -v lvsweep)" = "$folder/prefix/bin/lvsweep" ] || fail "another lvsweep is found first"
lvsweep doctor >doctor.log
lvsweep --help >help.log
[ -s prefix/share/man/man1/lvsweep.1 ] || fail "no manual page was installed"

step quickstart
lvsweep simulate -o data.h5 --systems 60 --seed 1
lvsweep init --preset quickstart --data data.h5 -o quickstart.ini
lvsweep plan quickstart.ini >plan.log
expect 'cut' plan.log
mpirun -n 3 lvsweep quickstart.ini >first.log 2>&1 || { cat first.log; fail "the quickstart ended with $?"; }
expect 'best by val_loss' first.log
mpirun -n 3 lvsweep quickstart.ini >again.log 2>&1 || { cat again.log; fail "the same command again ended with $?"; }
finished >first.list
[ "$(wc -l <first.list)" = 11 ] || { cat first.list; fail "11 trials should be done"; }

step "look at the report"
lvsweep report quickstart.lvsweep -o report.html
expect 'lvsweep' report.html
grep -q 'https\?://[^w]' report.html && fail "the report points outside"
lvsweep report quickstart.lvsweep --svg heatmap -o heatmap.svg
lvsweep watch quickstart.lvsweep --once >watch.log
expect 'finished' watch.log
lvsweep best quickstart.lvsweep
lvsweep cite quickstart.lvsweep >cite.log
cp -r quickstart.lvsweep run.lvsweep # what docs/examples read

step "change the grid: another learning rate, two ranks, a larger budget; kill it in the middle"
sed -i 's/^rank = .*/rank = 8, 4/; s/^learning_rate = .*/learning_rate = 3e-3, 1e-3, 1e-4/; s/^flops = .*/flops = 9e12/' quickstart.ini
lvsweep plan quickstart.ini >changed.log
expect '2 run, 4 kept' changed.log
set -m # mpirun gets a process group of its own
mpirun -n 3 lvsweep quickstart.ini --set sweep.stages=search >killed.log 2>&1 &
victim=$!
set +m
for _ in $(seq 600); do
  grep -q '"e":"assigned"' <(tail -n +"$(($(wc -l <run.lvsweep/journal.jsonl) + 1))" quickstart.lvsweep/journal.jsonl) && break
  sleep 0.1
done
sleep 2
kill -KILL -- "-$victim"
wait "$victim" && fail "the killed sweep ended well"
lvsweep watch quickstart.lvsweep --once >after.log

step resume
mpirun -n 3 lvsweep quickstart.ini --set sweep.stages=search >resumed.log 2>&1 || { cat resumed.log; fail "resume ended with $?"; }
finished >second.list
join first.list second.list | awk '$2 != $3 { bad = 1 } END { exit bad }' || fail "a finished trial ran again"
[ "$(wc -l <second.list)" -gt "$(wc -l <first.list)" ] || fail "nothing new was trained"
lvsweep check quickstart.lvsweep >check.log || { cat check.log; fail "check ended with $?"; }

step export
lvsweep export run.lvsweep --csv -o table.csv
lvsweep export run.lvsweep --json -o table.json
lvsweep export run.lvsweep --adapter best -o adapter
lvsweep export run.lvsweep --adapter best --merge -o merged

step "forecast one's own CSV"
{
  echo series,time,prey,predator
  for t in $(seq 0 29); do
    awk -v t="$t" 'BEGIN { printf "mine,%d,%.3f,%.3f\n", t, 1.5 + sin(t / 3), 1.2 + cos(t / 3) }'
  done
} >mine.csv
lvsweep forecast run.lvsweep --data mine.csv --horizon 10 --samples 4 -o mine-forecast.csv
[ "$(wc -l <mine-forecast.csv)" = 21 ] || fail "10 times, 2 channels and a header were expected"
lvsweep forecast adapter --data - --horizon 2 --samples 1 <mine.csv >from-adapter.csv
[ "$(wc -l <from-adapter.csv)" = 5 ] || fail "2 times, 2 channels and a header were expected"

step "load the adapter in peft"
python=${LVS_PYTHON_PEFT:-python3}
if "$python" -c 'import peft, transformers, torch' 2>/dev/null; then
  "$python" "$examples/adapter.py" 2>peft.log | tee peft.out
  awk '/largest change/ { change = $NF } END { exit !(change > 0.01) }' peft.out || { cat peft.log; fail "no effect in peft"; }
  "$build/tests/golden/adapter_logits" run.lvsweep
  "$python" "$examples/../../tests/tools/check_adapter.py" run.lvsweep/best/adapter --ids ids.json \
    --model prefix/share/lvsweep/sweeps/quickstart/model --logits logits.safetensors 2>check.log |
    tee check.out || { cat check.log; fail "peft's logits differ"; }
  "$python" "$examples/merged.py" 2>merged.log | tee merged.out
  awk '/largest difference/ { d = $NF } END { exit !(d < 0.1) }' merged.out || { cat merged.log; fail "merged differs"; }
else
  echo "skipped: $python has no peft, transformers and torch (LVS_PYTHON_PEFT names one that has)"
fi
step "the walk is at its end"
