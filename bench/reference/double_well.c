/* Euler-Maruyama in U = (x^2 - 1)^2 + y^2/2 with D = 0.2, written by hand: what a careful C programmer gets from gcc.
 *
 * Trajectories advance 256 at a time, arrays of one variable each; xoshiro256+ per trajectory, Box-Muller with the vector
 * logarithm, sine and cosine of glibc (libmvec).  Usage: double_well N STEPS DT SEED; prints the mean of x, the particle-steps
 * per second in millions.
 *
 *     gcc -O3 -march=native -ffast-math -fopenmp-simd double_well.c -o double_well -lm
 */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { LANES = 256 };

static uint64_t splitmix(uint64_t *s) {
    uint64_t z = (*s += 0x9E3779B97F4A7C15ull);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    return z ^ (z >> 31);
}

typedef struct {
    uint64_t s0[LANES], s1[LANES], s2[LANES], s3[LANES];
    double x[LANES], y[LANES];
} block;

static inline double unit(uint64_t bits) { /* (0, 1] */
    double d;
    bits = (bits >> 12) | 0x3FF0000000000000ull;
    memcpy(&d, &bits, sizeof d);
    return 2.0 - d;
}

#define STEP(s0, s1, s2, s3) \
    { uint64_t t = s1 << 17; s2 ^= s0; s3 ^= s1; s1 ^= s2; s0 ^= s3; s2 ^= t; s3 = (s3 << 45) | (s3 >> 19); }

static void advance(block *restrict b, long steps, double h) {
    const double scale = sqrt(2 * 0.2 * h);
    for (long k = 0; k < steps; k++) {
#pragma omp simd
        for (int i = 0; i < LANES; i++) {
            uint64_t s0 = b->s0[i], s1 = b->s1[i], s2 = b->s2[i], s3 = b->s3[i];
            uint64_t first = s0 + s3;
            STEP(s0, s1, s2, s3)
            uint64_t second = s0 + s3;
            STEP(s0, s1, s2, s3)
            b->s0[i] = s0; b->s1[i] = s1; b->s2[i] = s2; b->s3[i] = s3;
            double r = scale * sqrt(-2.0 * log(unit(first))), turn = 6.283185307179586 * unit(second);
            double x = b->x[i], y = b->y[i];
            b->x[i] = x - 4 * h * x * (x * x - 1) + r * cos(turn);
            b->y[i] = y - h * y + r * cos(turn - 1.5707963267948966);
        }
    }
}

int main(int argc, char **argv) {
    if (argc != 5) return fprintf(stderr, "usage: %s N STEPS DT SEED\n", argv[0]), 2;
    long n = atol(argv[1]), steps = atol(argv[2]), blocks = (n + LANES - 1) / LANES;
    double h = atof(argv[3]), sum = 0.0;
    uint64_t state = strtoull(argv[4], NULL, 10);
    block *b = aligned_alloc(64, sizeof(block));
    struct timespec a, z;
    clock_gettime(CLOCK_MONOTONIC, &a);
    for (long k = 0; k < blocks; k++) {
        for (int i = 0; i < LANES; i++) {
            b->s0[i] = splitmix(&state), b->s1[i] = splitmix(&state), b->s2[i] = splitmix(&state), b->s3[i] = splitmix(&state);
            b->x[i] = -1.0, b->y[i] = 0.0;
        }
        advance(b, steps, h);
        for (int i = 0; i < LANES; i++) sum += b->x[i];
    }
    clock_gettime(CLOCK_MONOTONIC, &z);
    double seconds = (z.tv_sec - a.tv_sec) + 1e-9 * (z.tv_nsec - a.tv_nsec);
    printf("%.17g %.6g\n", sum / (blocks * LANES), blocks * LANES * (double)steps / seconds / 1e6);
    return 0;
}
