"""64 ranks on this machine (RANKS as argument): 250 trials with the fake runner, the same numbers as in one process,
and most workers took some."""
import sys
import time

import harness

INI = f"""
[stage.search]
rank = 1, 2, 4, 8, 16
learning_rate = 1e-5, 5e-5, 1e-4, 5e-4, 1e-3
seed = {", ".join(map(str, range(10)))}
steps = 20
[budget]
flops = none
[run]
runner = fake
fake = step:5e-3
[evaluate]
loss = yes
"""

ranks = int(sys.argv[1]) if len(sys.argv) > 1 else 64
where = harness.folder()
ini = where / "many.ini"
ini.write_text(INI)
harness.run(0, ini, "--output", where / "one", "--set", "run.fake=step:0")
began = time.time()
harness.run(ranks, ini, "--output", where / "many", timeout=600, environment={"OMPI_MCA_mpi_yield_when_idle": "1"})
seconds = time.time() - began
assert harness.numbers(where / "one") == harness.numbers(where / "many")
workers = {row["worker"] for row in harness.table(where / "many")}
assert "0" not in workers and len(workers) > ranks // 2, sorted(workers)
print(f"{ranks} ranks, 250 trials of 0.1 s, {len(workers)} workers: {seconds:.0f} s, equal numbers")
harness.clean(where)
