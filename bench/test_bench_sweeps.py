"""What a sweep costs per unit, beside the loop that one would write instead: units that do nothing, their results in a file."""

import h5py
import pytest

import fpsolve as fps

UNITS = 500


def nothing(a):
    return float(a)


def by_hand(path):
    """One row for each unit, written down as soon as it is there."""
    with h5py.File(path, "w") as file:
        values, done = file.create_dataset("values", UNITS), file.create_dataset("done", UNITS, dtype=bool)
        for a in range(UNITS):
            values[a], done[a] = nothing(a), True
            file.flush()


@pytest.mark.parametrize("way", ["fpsolve", "h5py, a loop"])
def test_units_that_do_nothing(benchmark, way, tmp_path):
    benchmark.group = f"{UNITS} units of a sweep in this process, results in a file"
    path = tmp_path / "units.h5"
    run = (lambda: fps.sweep(nothing, {"a": range(UNITS)}, out=path)) if way == "fpsolve" else (lambda: by_hand(path))
    benchmark.pedantic(run, setup=lambda: path.unlink(missing_ok=True), rounds=3, warmup_rounds=1)
    benchmark.extra_info["microseconds_per_unit"] = round(benchmark.stats.stats.median / UNITS * 1e6, 1)
