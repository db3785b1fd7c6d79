/* Step loops written by hand: what a careful C programmer gets from gcc for the cases of bench/speed_of_paths.py.
 *
 * U = (x^2 - 1)^2 (+ y^2/2), D = 0.2 or a full factor B(x). Trajectories advance 256 at a time, arrays of one variable each;
 * xoshiro256+ per trajectory, Box-Muller with the vector logarithm, sine, cosine and exponential of glibc (libmvec).
 *
 *     additive   Euler in 2-D            baoab   BAOAB in 2-D, friction 1, temperature 0.2
 *     tensor     Euler, B = [[0.6 + 0.1 x^2, 0.08 x], [0.08 x, 0.4 + 0.1 y^2]]
 *     escape     1-D from -1 to x >= 1 with the Brownian-bridge test at every step; lanes are refilled; STEPS is ignored
 *
 * Usage: paths CASE N STEPS DT SEED; prints a mean (of x, with baoab of y^2, of the exit time), millions of (useful)
 * particle-steps per second, the seconds that the processor took, and the standard deviation of what has the mean.
 *
 *     gcc -O3 -march=native -ffast-math -fopenmp-simd paths.c -o paths -lm
 */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { LANES = 256 };

typedef struct {
    uint64_t s0[LANES], s1[LANES], s2[LANES], s3[LANES];
    double x[LANES], y[LANES], vx[LANES], vy[LANES], next[LANES], event[LANES];
} block;

static uint64_t splitmix(uint64_t *s) {
    uint64_t z = (*s += 0x9E3779B97F4A7C15ull);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    return z ^ (z >> 31);
}

static inline double unit(uint64_t bits) { /* (0, 1] */
    double d;
    bits = (bits >> 12) | 0x3FF0000000000000ull;
    memcpy(&d, &bits, sizeof d);
    return 2.0 - d;
}

#define WORD(name) \
    uint64_t name = s0 + s3; \
    { uint64_t t = s1 << 17; s2 ^= s0; s3 ^= s1; s1 ^= s2; s0 ^= s3; s2 ^= t; s3 = (s3 << 45) | (s3 >> 19); }
#define LOAD uint64_t s0 = b->s0[i], s1 = b->s1[i], s2 = b->s2[i], s3 = b->s3[i];
#define STORE b->s0[i] = s0; b->s1[i] = s1; b->s2[i] = s2; b->s3[i] = s3;
#define NORMALS(z0, z1) \
    WORD(first) WORD(second) \
    double r = sqrt(-2.0 * log(unit(first))), turn = 6.283185307179586 * unit(second); \
    double z0 = r * cos(turn), z1 = r * cos(turn - 1.5707963267948966);

static void additive(block *restrict b, long steps, double h) {
    const double s = sqrt(2 * 0.2 * h);
    for (long k = 0; k < steps; k++) {
#pragma omp simd
        for (int i = 0; i < LANES; i++) {
            LOAD NORMALS(z0, z1) STORE
            double x = b->x[i], y = b->y[i];
            b->x[i] = x - 4 * h * x * (x * x - 1) + s * z0;
            b->y[i] = y - h * y + s * z1;
        }
    }
}

static void tensor(block *restrict b, long steps, double h) {
    const double s = sqrt(h);
    for (long k = 0; k < steps; k++) {
#pragma omp simd
        for (int i = 0; i < LANES; i++) {
            LOAD NORMALS(z0, z1) STORE
            double x = b->x[i], y = b->y[i];
            b->x[i] = x - 4 * h * x * (x * x - 1) + s * ((0.6 + 0.1 * x * x) * z0 + 0.08 * x * z1);
            b->y[i] = y - h * y + s * (0.08 * x * z0 + (0.4 + 0.1 * y * y) * z1);
        }
    }
}

static void baoab(block *restrict b, long steps, double h) {
    const double c = exp(-h), s = sqrt(0.2 * (1 - c * c)), half = 0.5 * h;
    for (long k = 0; k < steps; k++) {
#pragma omp simd
        for (int i = 0; i < LANES; i++) {
            LOAD NORMALS(z0, z1) STORE
            double x = b->x[i], y = b->y[i], u = b->vx[i], v = b->vy[i];
            u -= half * 4 * x * (x * x - 1), v -= half * y;
            x += half * u, y += half * v;
            u = c * u + s * z0, v = c * v + s * z1;
            x += half * u, y += half * v;
            u -= half * 4 * x * (x * x - 1), v -= half * y;
            b->x[i] = x, b->y[i] = y, b->vx[i] = u, b->vy[i] = v;
        }
    }
}

static void start(block *b, int i, uint64_t *state) {
    b->s0[i] = splitmix(state), b->s1[i] = splitmix(state), b->s2[i] = splitmix(state), b->s3[i] = splitmix(state);
    b->x[i] = -1.0, b->y[i] = 0.0, b->vx[i] = 0.0, b->vy[i] = 0.0;
}

/* One step of all lanes with the normal z; the number of lanes that met x = 1. */
#define CROSS(z) \
    double x = b->x[i], new = x - 4 * h * x * (x * x - 1) + s * z; \
    double met = exp(fmax(-700.0, fmin(0.0, -scale * (1.0 - x) * (1.0 - new)))) >= unit(third) ? 1.0 : 0.0; \
    b->x[i] = new, b->event[i] = met, events += met;

static double even_step(block *restrict b, double h) {
    const double s = sqrt(2 * 0.2 * h), scale = 2 / (2 * 0.2 * h);
    double events = 0.0;
#pragma omp simd reduction(+ : events)
    for (int i = 0; i < LANES; i++) {
        LOAD NORMALS(z0, z1) WORD(third) STORE
        b->next[i] = z1;
        CROSS(z0)
    }
    return events;
}

static double odd_step(block *restrict b, double h) {
    const double s = sqrt(2 * 0.2 * h), scale = 2 / (2 * 0.2 * h);
    double events = 0.0;
#pragma omp simd reduction(+ : events)
    for (int i = 0; i < LANES; i++) {
        LOAD WORD(third) STORE
        CROSS(b->next[i])
    }
    return events;
}

/* Sum of the steps that n trajectories took; a lane takes the next trajectory at an even step, where its normals come in pairs. */
static double escape(block *restrict b, long n, double h, uint64_t *state, double *squares) {
    long birth[LANES], started = 0, done = 0, k = 0;
    int free_lanes = LANES;
    double total = 0.0;
    for (int i = 0; i < LANES; i++) birth[i] = -1;
    while (done < n) {
        if (k % 2 == 0 && free_lanes && started < n)
            for (int i = 0; i < LANES && started < n; i++)
                if (birth[i] < 0) start(b, i, state), birth[i] = k, started++, free_lanes--;
        double events = k % 2 == 0 ? even_step(b, h) : odd_step(b, h);
        k++;
        if (events == 0.0) continue;
        for (int i = 0; i < LANES; i++) {
            if (b->event[i] > 0.0 && birth[i] >= 0) {
                double time = k - birth[i];
                total += time, *squares += time * time, birth[i] = -1, free_lanes++, done++;
            }
            if (birth[i] < 0) b->x[i] = -1.0;
        }
    }
    return total;
}

int main(int argc, char **argv) {
    if (argc != 6) return fprintf(stderr, "usage: %s CASE N STEPS DT SEED\n", argv[0]), 2;
    long n = atol(argv[2]), steps = atol(argv[3]), blocks = (n + LANES - 1) / LANES;
    double h = atof(argv[4]), sum = 0.0, squares = 0.0, taken = blocks * LANES * (double)steps, mean, square;
    uint64_t state = strtoull(argv[5], NULL, 10);
    block *b = aligned_alloc(64, sizeof(block));
    struct timespec a, z;
    clock_t cpu = clock();
    clock_gettime(CLOCK_MONOTONIC, &a);
    if (!strcmp(argv[1], "escape")) {
        memset(b, 0, sizeof *b);
        taken = escape(b, n, h, &state, &squares), mean = taken * h / n, square = squares * h * h / n;
    } else {
        void (*advance)(block *restrict, long, double) =
            !strcmp(argv[1], "additive") ? additive : !strcmp(argv[1], "tensor") ? tensor : !strcmp(argv[1], "baoab") ? baoab : NULL;
        if (!advance) return fprintf(stderr, "no case %s\n", argv[1]), 2;
        for (long k = 0; k < blocks; k++) {
            for (int i = 0; i < LANES; i++) start(b, i, &state);
            advance(b, steps, h);
            for (int i = 0; i < LANES; i++) {
                double q = advance == baoab ? b->y[i] * b->y[i] : b->x[i];
                sum += q, squares += q * q;
            }
        }
        mean = sum / (blocks * LANES), square = squares / (blocks * LANES);
    }
    clock_gettime(CLOCK_MONOTONIC, &z);
    double seconds = (z.tv_sec - a.tv_sec) + 1e-9 * (z.tv_nsec - a.tv_nsec);
    printf("%.17g %.6g %.6g %.6g\n", mean, taken / seconds / 1e6, (clock() - cpu) / (double)CLOCKS_PER_SEC, sqrt(square - mean * mean));
    return 0;
}
