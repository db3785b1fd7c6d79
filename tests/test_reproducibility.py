"""The same bits for the same seed: across threads, chunks and processes; and other bits for another seed."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent

PROGRAM = """
import hashlib, sys
import numpy as np
import fpsolve as fps, nets

threads, chunk, seed = map(int, sys.argv[1:])
U = fps.Potential.from_expression("(x**2 - 1)**2 + sin(y)**2", "x y")
noise = fps.Noise.from_expression([["0.3 + 0.1*x**2", "0.1*x"], ["0.1*x", "0.2"]], "x y")
process, start = fps.Process(U, noise), [-1.0, 0.0]
digest = hashlib.sha256()
options = {"n": 700, "dt": 0.01, "seed": seed, "threads": threads, "chunk": chunk}
for save in ("final", "moments", "histogram", [0.5, 1.0]):
    extra = {"bins": (8, 8), "ranges": ((-2, 2), (-2, 2))} if save == "histogram" else {}
    t_burn = 0.5 if save in ("moments", "histogram") else None
    out = fps.simulate(process, start, t=1.0, save=save, t_burn=t_burn, **extra, **options)
    parts = [out.final, out.mean, out.covariance, out.states, None if out.histogram is None else out.histogram.values]
    for part in parts:
        digest.update(b"" if part is None else np.ascontiguousarray(part).tobytes())
out = fps.escape_times(process, start, fps.Region.halfspace([1.0, 0.0], 0.5), **options)
digest.update(out.times.tobytes() + out.exit_points.tobytes())
data, mlp = nets.load_data("digits"), nets.MLP((64, 12, 10), activation="tanh")
digest.update(nets.train(mlp, data, lr=0.1, batch=20, epochs=2, seed=seed).theta.tobytes())
print(digest.hexdigest())
"""


def digest(threads: int, chunk: int, seed: int) -> str:
    command = [sys.executable, "-c", PROGRAM, str(threads), str(chunk), str(seed)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def test_bits_do_not_depend_on_threads_chunks_or_process():
    reference = digest(1, 700, 5)
    assert len(reference) == 64
    assert digest(2, 97, 5) == reference
    assert digest(1, 700, 6) != reference


@pytest.mark.parametrize("n", [1, 255, 257])
def test_a_trajectory_does_not_know_how_many_there_are(n):
    """Trajectory i depends on (seed, i) alone: the first n of a larger ensemble are the ensemble of n."""
    import fpsolve as fps

    process = fps.Process(fps.potentials.double_well(), fps.Noise.isotropic(0.3))
    many = fps.simulate(process, [0.0], t=0.5, dt=0.01, n=600, seed=9).final
    few = fps.simulate(process, [0.0], t=0.5, dt=0.01, n=n, seed=9).final
    np.testing.assert_array_equal(few, many[:n])
