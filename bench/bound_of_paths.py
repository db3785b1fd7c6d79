"""What bounds a particle-step: instructions of the step loop as LLVM wrote it, beside what the processor does with such ones.

    python bench/bound_of_paths.py

The kernel of the 2-D double well with additive noise is compiled anew and its inner loops are read from the assembly: for one SIMD
vector of particles, how many instructions a step has, and how many of these compute (copies between registers, loads and stores do
not). In the same process the script times the kernel, chains of multiply-adds on numbers in the first cache (the rate of computing
instructions at its best) and roots of quotients (the divider, which both share). The two bounds are the time that the step's
computing instructions, or its quotient and root, would take at these rates; they overlap, so the larger counts. All rounds
alternate; the fastest counts, in processor time. x86 only.
"""

import os
import re
import time
from collections.abc import Callable

os.environ["FPSOLVE_NUMBA_CACHE"] = "0"  # machine code that was loaded cannot be read

import numpy as np

import fpsolve as fps
from fpsolve import _codegen
from fpsolve._jit import kernel

N, STEPS, ROUNDS, DEEP, LANES = 10_240, 1_000, 15, 12, 256

_COMPUTES = re.compile(r"v(?!mov|broadcast)\w+$")
_scope: dict = {}
#: Eight chains of squares plus constants side by side, so that none waits for its own last result, and no algebra shortens them.
exec(
    "def chains(x_in, out, repeats):\n    for _ in range(repeats):\n        for i in range(256):\n            x = x_in[i]\n"
    + "".join(f"            a{j} = x - {j / 16}\n" for j in range(8))
    + "".join(f"            a{j} = a{j}*a{j} - {0.1 + j % 4 / 8}\n" for _ in range(DEEP) for j in range(8))
    + f"            out[i] = {' + '.join(f'a{j}' for j in range(8))}\n",
    _scope,
)


def roots(x, out, repeats):
    """Roots of quotients of numbers in the first cache."""
    for _ in range(repeats):
        for i in range(256):
            out[i] = np.sqrt((x[i] + 1.0) / (x[i] + 2.0))


def loops(assembly: str) -> list[list[str]]:
    """Mnemonics of the innermost loops, with their operands."""
    lines = [line.strip() for line in assembly.splitlines()]
    at = {line[:-1]: k for k, line in enumerate(lines) if line.startswith(".L") and line.endswith(":")}
    found = []
    for k, line in enumerate(lines):
        target = line.split()[-1] if line.startswith("j") else ""
        if at.get(target, k) < k and not any(other.startswith((".L", "j")) for other in lines[at[target] + 1 : k]):
            found.append([other for other in lines[at[target] + 1 : k] if not other.startswith((".p2align", "#"))])
    return found


def per_vector(loop: list[str], bits: int) -> tuple[float, float]:
    """(instructions, computing ones) of a loop for each SIMD vector of lanes that it advances."""
    step = next(int(m[1]) for line in reversed(loop) if (m := re.match(r"addq\s+\$(\d+)", line)))
    vectors = step * 64 / bits
    return len(loop) / vectors, sum(bool(_COMPUTES.match(line.split()[0])) for line in loop) / vectors


def fastest(runs: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Seconds of the processor, the least of all rounds."""
    best = dict.fromkeys(runs, np.inf)
    for _ in range(ROUNDS + 1):
        for name, run in runs.items():
            begin = time.process_time()
            run()
            best[name] = min(best[name], time.process_time() - begin)
    return best


def main() -> None:
    process = fps.Process(fps.potentials.double_well(2), fps.Noise.isotropic(0.2))
    call = {"t": STEPS * 1e-3, "dt": 1e-3, "n": N, "seed": 1, "threads": 1}
    fps.simulate(process, [-1.0, 0.0], **call)
    advance = next(m.advance for m in _codegen.loaded_modules() if hasattr(m, "advance"))
    inner = loops(advance.inspect_asm(advance.signatures[0]))
    bits = 512 if any("zmm" in line for loop in inner for line in loop) else 256
    inner = [loop for loop in inner if sum("mm" in line for line in loop) > 8]
    instructions, computing = np.sum([per_vector(loop, bits) for loop in inner], axis=0)

    x, out, repeats = np.linspace(0.1, 0.9, LANES), np.empty(LANES), 20_000
    chains, quotients = kernel(_scope["chains"]), kernel(roots)
    chains(x, out, 1), quotients(x, out, 1)
    best = fastest({
        "step": lambda: fps.simulate(process, [-1.0, 0.0], **call),
        "chains": lambda: chains(x, out, repeats),
        "roots": lambda: quotients(x, out, repeats),
    })  # fmt: skip
    vectors = LANES * 64 / bits * repeats
    step = best["step"] / (N * STEPS * 64 / bits) * 1e9
    one = best["chains"] / (vectors * (8 * DEEP + 15)) * 1e9
    root = best["roots"] / vectors * 1e9
    print(f"SIMD vectors of {bits} bits; a step of one has {instructions:.0f} instructions, of which {computing:.0f} compute")
    print(f"a vector-step takes {step:.1f} ns: {bits / 64 / step * 1e3:.0f} million particle-steps/s")
    taken = computing * one
    print(f"at {1 / one:.1f} multiply-adds per ns the computing ones take {taken:.1f} ns: {taken / step:.0%}")
    print(f"the divider takes {root:.1f} ns: {root / step:.0%}")


if __name__ == "__main__":
    main()
