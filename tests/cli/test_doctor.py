"""lvsweep doctor alone and on three ranks, and lvsweep cite."""
import harness

where = harness.folder()
try:
    alone = harness.run(0, "doctor", "--folder", where).stdout
    for word in ("program   lvsweep", "mpi       ", "no launcher", "libhdf5", "host      ", "1 of 1 ranks share it",
                 "can be written by all ranks together", "no problem found"):
        assert word in alone, (word, alone)
    three = harness.run(3, "doctor", "--folder", where).stdout
    assert "3 ranks" in three and "3 of 3 ranks share it" in three and three.count("host      ") == 1, three
    assert not list(where.iterdir()), "nothing is left behind"

    # A folder that is not there, and a step whose tasks have not found each other.
    gone = harness.run(2, "doctor", "--folder", where / "gone", expect=7).stdout
    assert "problem" in gone and "gone" in gone, gone
    lonely = harness.run(0, "doctor", "--folder", where, expect=7, environment={"SLURM_STEP_NUM_TASKS": "8"}).stdout
    assert "rank 0 of 1" in lonely and "--mpi=pmix" in lonely, lonely

    ini = where / "fake.ini"
    ini.write_text(harness.FAKE_INI.format(fake=""))
    harness.run(0, ini, "--set", "budget.flops=1e15")
    said = harness.run(0, "cite", where / "fake.lvsweep").stdout
    assert "10 trials in 2 stages" in said and "LoRA ranks from 2 to 8" in said and "of a budget of 1e+15" in said, said
    assert "@software{lvsweep" in harness.run(0, "cite", "--bibtex").stdout
    assert "journal" in harness.run(0, "cite", where, expect=5).stderr
    print("doctor: one rank, three ranks, a missing folder and a split step; cite with a sweep's numbers")
finally:
    harness.clean(where)
