"""What fpsolve set out to reach: every target with the references of its table, what bounds it, and why it may fall short.

The numbers here come from the tables that the work was planned with, not from a run. A target in seconds, gigabytes or as an error
is a most, any other a least. The tables give the time or rate of references too: how many times as fast as the reference fpsolve
would be at the target is what a run is judged by, since it depends on the machine less than the number does.

In the words of a bound ``{NAME}`` stands for the time of another way, or case of the same script, over that of fpsolve, and
``{number of NAME}`` for its own number; of a row without unit both are the number.
"""

from dataclasses import dataclass

PATHS, DENSITIES, NETWORKS, STARTUP, CLAIMS, FIGURES = "paths", "Fokker-Planck", "networks", "start-up", "claims", "feng-tu"
#: Heading of a section, and what its numbers are.
WHAT = {
    PATHS: ("Paths", "million particle-steps per second of one core, double precision"),
    DENSITIES: ("Fokker-Planck", "processor seconds of one thread, `rtol=1e-3`, assembly included"),
    NETWORKS: ("Networks", "processor seconds of one thread, 784-50-50-10 on MNIST"),
    STARTUP: ("Start-up", "seconds of the clock for a whole fresh process"),
    CLAIMS: ("High barriers, high order", "checks of `fpsolve validate any-barrier high-order --full`"),
    FIGURES: ("All figures of a paper", "seconds of the clock for `fpsolve validate feng-tu`, every claim of the group"),
}


@dataclass(frozen=True)
class Reference:
    """What a target is compared with: a way of the same case; or, with part of the name of a `problem`, a package of `bench/peers`.

    `table` is its number in the table of the target, in the target's unit; without one, `needed` is the ratio itself.
    """

    name: str
    way: str
    table: float | None = None
    needed: float | None = None
    problem: str = ""


@dataclass(frozen=True)
class Target:
    """One line of a table: what, where it is measured, how much, beside what; the largest error of the answer, where it is said."""

    part: str
    job: str
    case: str
    limit: float
    unit: str
    bound: str
    short: str = ""
    references: tuple[Reference, ...] = ()
    error: float | None = None

    @property
    def most(self) -> bool:
        """Whether the number may not exceed the target; else it may not be below."""
        return self.unit in ("s", "GB", "error")

    def needed(self, reference: Reference) -> float:
        """How many times as fast as the reference fpsolve is at the target."""
        if reference.needed is not None:
            return reference.needed
        assert reference.table is not None
        return reference.table / self.limit if self.most else self.limit / reference.table


def c_of(needed: float = 0.85) -> Reference:
    return Reference("hand-written C", "C", needed=needed)


NORMALS = (
    "instructions: a normal is a logarithm, a root, a sine and a cosine, polynomials in SIMD code; the normals alone take "
    "{a pair of normals per step:.0%} of the time"
)
PROCESSOR = "set on another processor: here the C program, which does the same arithmetic, reaches {number of C:.0f}"
EDGES = "([the table of bounds](fokker-planck.md#speed))"
GEMM = "{of gemm:.0%} of the rate of a large square product"
BYTES = "{the bytes of its products through NumPy's add:.0%}"
MADE = "{its assembly:.0%}"
MODULES = (
    "imports: Python, NumPy and Numba alone take {python, NumPy, Numba, filled caches:.0%} of it; with one function from Numba's "
    "cache, for which Numba loads the rest of itself and SciPy's linear algebra, {one cached function of Numba, filled caches:.0%}"
)

TARGETS = (
    # ---- paths ----
    Target(
        PATHS, "2-D double well, additive noise, Euler", "2-D, additive noise", 380, "M/s", NORMALS, PROCESSOR,
        (c_of(), Reference("jax-md", "jax-md", 20, problem="additive"), Reference("diffrax", "diffrax", 14, problem="additive")),
    ),
    Target(
        PATHS, "2-D, full state-dependent `B(x)`", "2-D, full B(x)", 300, "M/s", f"{NORMALS}; the factor adds six products",
        PROCESSOR, (c_of(), Reference("diffrax", "diffrax", 12.5, problem="full factor")),
    ),
    Target(
        PATHS, "1-D escape at `D = 0.2`, 10 000 paths, bridge, useful steps", "1-D escape with bridge, useful steps", 300, "M/s",
        "instructions: as above, but one normal per step; the bridge adds an exponential and a uniform number, and lanes that were "
        "left are filled anew", PROCESSOR,
        (c_of(), Reference("kramers", "kramers", 24, problem="escape")),
    ),
    Target(
        PATHS, "50 dimensions, dense covariance", "d = 50, dense covariance", 3, "M/s",
        "multiply-adds: 5000 per step and path, and 50 normals; as products of large matrices the multiply-adds alone reach "
        "{number of multiply-adds:.2g} M/s and take {multiply-adds:.0%} of the time",
        "products of 50 x 100 matrices with panels of 64 paths do not reach the rate of large ones, and normals come between",
        (Reference("diffrax", "diffrax", 0.8, problem="50 dimensions"),),
    ),
    Target(
        PATHS, "2-D BAOAB", "2-D BAOAB", 330, "M/s", NORMALS, PROCESSOR,
        (c_of(), Reference("jax-md", "jax-md", 21, problem="inertia"), Reference("OpenMM", "openmm", 11, problem="inertia")),
    ),
    Target(
        PATHS, "two threads over one", "two threads / one", 1.9, "times", "the machine: paths share nothing but the queue",
        "two processes of the C program, which share nothing at all, gain {C:.2f} over one in the same run",
    ),
    # ---- densities ----
    Target(
        DENSITIES, "line, 1000 cells, narrow start to `t = 10`", "1-D double well, 1000 cells to t = 10", 2e-3, "s",
        "latency: 30 complex tridiagonal systems, each a chain of divisions along 1000 cells",
        "the systems are those of two orders, whose difference is the error; CRAM-14 has seven and no error; start, grid and "
        "checks are the other half",
        (Reference("CRAM-14", "CRAM-14", 0.5e-3), Reference("TR-BDF2", "TR-BDF2", 17e-3)),
    ),
    Target(
        DENSITIES, "plane, full tensor, `256^2` to `t = 1`, error below 1e-3", "2-D full tensor 256^2 to t = 1", 0.3, "s",
        f"memory of the third cache: the bytes of its products take {BYTES} of the time in NumPy's addition, the assembly {MADE}",
        "products at a part of the cache's rate, and the assembly",
        (Reference("splu, Crank-Nicolson", "splu Crank-Nicolson, 40 steps", 0.59), Reference("RKC2", "RKC2, 100 steps", 0.25)),
        error=1e-3,
    ),
    Target(
        DENSITIES, "the same at `512^2`", "2-D full tensor 512^2 to t = 1", 2.5, "s",
        f"memory: as above {BYTES}, the assembly {MADE}",
        "the assembly",
        (Reference("splu, Crank-Nicolson", "splu Crank-Nicolson, 40 steps", 3.6), Reference("RKC2", "RKC2, 100 steps", 2.4)),
    ),
    Target(
        DENSITIES, "stationary, `512^2`, full tensor", "stationary 512^2, full tensor", 2.5, "s",
        f"flops of an elimination without subtractions: its fronts run at a fourteenth of the rate of a large product {EDGES}",
        "the fronts",
        (Reference("splu", "splu", 2.3),),
    ),
    Target(
        DENSITIES, "stationary, `1024^2`, full tensor: peak memory", "stationary 1024^2, full tensor, peak memory", 4, "GB",
        "the factors, which are kept for further questions", "the factors",
    ),
    Target(
        DENSITIES, "`64^3` to `t = 1`", "64^3, sum of potentials, to t = 1", 0.5, "s",
        f"memory: products with seven rates in a row; the assembly takes {MADE}",
        "the assembly", (Reference("Runge-Kutta 2", "Runge-Kutta 2, 248 steps", 0.5),),
    ),
    Target(
        DENSITIES, "assembly, `512^2`, full tensor", "assembly 512^2, full tensor", 0.3, "s",
        f"arithmetic of the reduction in every cell and finding the other end of every edge, at half the rate of SIMD blocks; then "
        f"56 bytes of memory per rate, in scattered order and at a seventh of the rate of memory {EDGES}",
        "rates are found and written in scattered order",
    ),
    # ---- networks ----
    *(
        Target(
            NETWORKS, f"training, batch 50, {precision}, `W2` recorded", f"training, {precision}, W2 recorded", limit, "steps/s",
            "flops: the first layer's two products with 50 rows alone take {products of the first layer:.0%} of the time; all "
            f"products of a step reach {GEMM}",
            "the first layer's products, by the BLAS that NumPy calls, made for larger matrices; JAX's compiler makes its own",
            (
                Reference("torch, written by hand", "torch written by hand", by_hand),
                Reference("JAX scan", "jax", scan, problem=f"training, {precision}"),
            ),
        )
        for precision, limit, by_hand, scan in (("double", 3600, 1941, 2770), ("single", 6200, 3671, 4090))
    ),
    Target(
        NETWORKS, "centred covariance of `W2`'s gradients, 60 000 samples", "covariance of W2, 60 000 samples", 4.5, "s",
        f"flops: one product of two tables of 1275 pairs per sample, at {GEMM}", "making the tables and spreading the pairs",
        (
            Reference("torch.func", "torch", 17.8, problem="covariance"),
            Reference("BackPACK", "backpack-for-pytorch", 18.6, problem="covariance"),
        ),
    ),
    Target(
        NETWORKS, "exact Hessian of `W2`, 10 000 samples", "Hessian of W2, 10 000 samples", 1.1, "s", f"flops: as above, at {GEMM}",
        "making the tables and spreading the pairs",
        (
            Reference("torch.func", "torch", 58, problem="Hessian"),
            Reference("curvlinops", "curvlinops-for-pytorch", 124, problem="Hessian"),
        ),
    ),
    Target(
        NETWORKS, "20 eigenpairs, all 42 310 weights, 10 000 samples", "20 eigenpairs of all 42310 weights, 10 000 samples", 5, "s",
        f"flops: products with the images, of which only what is not zero is multiplied; counted with the zeros, {GEMM}",
        "the number of products that Lanczos needs",
        (Reference("curvlinops", "curvlinops-for-pytorch", 20.9, problem="eigenpairs"),),
    ),
    Target(
        NETWORKS, "principal components of 12 000 x 2500", "principal components of 12 000 x 2500", 3.5, "s",
        "flops: LAPACK's eigenproblem of 2500 x 2500 (`dsyevd`) alone takes {its eigh alone:.0%} of the time",
        "LAPACK's reduction to a tridiagonal matrix; scikit-learn and NumPy call the same",
        (Reference("scikit-learn", "scikit-learn, covariance_eigh", 4.6),),
    ),
    # ---- start-up ----
    Target(STARTUP, "`import fpsolve`", "import fpsolve, filled caches", 0.3, "s", "the interpreter: no dependency is imported"),
    Target(STARTUP, "`fpsolve --help`", "fpsolve --help, filled caches", 0.4, "s", "the interpreter and its argument parser"),
    *(
        Target(
            STARTUP, f"first `{call}`, {model}, {words} cache", f"{call}, {model}, {caches} caches", limit, "s",
            "compiling a kernel" if caches == "empty" else MODULES, "compiling" if caches == "empty" else "Numba's start",
        )
        for call in ("simulate", "escape_times")
        for model in ("built-in", "expression")
        for caches, words, limit in (("empty", "cold", 6), ("filled", "warm", 1))
    ),
    Target(
        STARTUP, "first density, expression, warm cache", "stationary density, expression, filled caches", 2, "s", MODULES,
        "Numba's start",
    ),
    # ---- what claims measure ----
    Target(
        CLAIMS, "mean exit time at barrier/`D` = 100, `256^2` cells",
        "any-barrier: processor seconds for the mean time on 256 x 256 cells", 30, "s", "flops of the elimination",
    ),
    *(
        Target(
            CLAIMS, f"high-order stationary density, `192^2`, condition {condition}",
            f"high-order: L1 error, condition {condition}, 192 x 192 cells", limit, "error", "the resolution, at order six",
        )
        for condition, limit in ((4, 1e-5), (100, 5e-5), (1000, 1e-4))
    ),
    # ---- all figures of a paper ----
    Target(FIGURES, "figures 1 to 5 and the table, quick", "feng-tu, quick", 180, "s", "training, on both processors"),
    Target(FIGURES, "the same in full", "feng-tu, full", 2400, "s", "training, on both processors"),
)  # fmt: skip
