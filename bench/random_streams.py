"""Raw words of fpsolve's random streams on standard output, for a public battery of tests.

The words are the 64-bit outputs of the generators before anything is made of them, low half included, which the normals use
only in part. With ``--streams 1`` they are those of one trajectory; with ``--streams N`` those of the N neighbouring trajectories
first, first + 1, ... in turn: a correlation between neighbours becomes one along the sequence. It writes until the reader stops.

    python bench/random_streams.py --streams 1 | dieharder -a -g 200
    python bench/random_streams.py --streams 256 | dieharder -a -g 200
"""

import argparse
import sys

import numpy as np

from fpsolve._jit import kernel_uncached
from fpsolve._kernels.rng import next_words, seeded_words


@kernel_uncached
def fill(states, out):
    """The next out.shape[0] outputs of every generator in states (n, 4), one row of `out` per turn."""
    for k in range(out.shape[0]):
        for i in range(states.shape[0]):
            word, a, b, c, d = next_words(states[i, 0], states[i, 1], states[i, 2], states[i, 3])
            out[k, i] = word
            states[i, 0], states[i, 1], states[i, 2], states[i, 3] = a, b, c, d


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--streams", type=int, default=1, help="how many neighbouring trajectories take turns")
    parser.add_argument("--seed", type=int, default=2024)
    parser.add_argument("--first", type=int, default=0, help="index of the first trajectory")
    options = parser.parse_args()
    states = np.array([seeded_words(options.seed, options.first + i) for i in range(options.streams)], np.uint64)
    out = np.empty((max(1, (1 << 17) // options.streams), options.streams), np.uint64)
    try:
        while True:
            fill(states, out)
            sys.stdout.buffer.write(out.tobytes())
    except BrokenPipeError:
        sys.stderr.close()  # the reader has had enough


if __name__ == "__main__":
    main()
