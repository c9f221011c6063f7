/* Counter-based random numbers: every number is a pure function of (seed, stream, counter), so a result never depends
 * on which thread asked first. Thread: any. Owns nothing.
 * Source: Philox4x32-10, Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011. */
#ifndef ENGINE_BASE_RNG_H
#define ENGINE_BASE_RNG_H

#include <stddef.h>
#include <stdint.h>

/* Four independent 32-bit words for one (seed, stream, counter). */
struct rng_words {
    uint32_t word[4];
};
struct rng_words rng_philox(uint64_t seed, uint64_t stream, uint64_t counter);

/* Uniform in [0, 1), a multiple of 2^-53. */
double rng_uniform(uint64_t seed, uint64_t stream, uint64_t counter);

/* 64 bits. */
uint64_t rng_bits(uint64_t seed, uint64_t stream, uint64_t counter);

/* Of mean 0 and standard deviation 1; and the same of what lies within two standard deviations. By inversion, without
 * the library's logarithm, so that every machine gives the same bits. */
double rng_normal(uint64_t seed, uint64_t stream, uint64_t counter);
double rng_truncated_normal(uint64_t seed, uint64_t stream, uint64_t counter);

/* The x below which a standard normal number lies with `probability`, in (0, 1); to about 1e-15 of itself.
 * Source: Wichura, "Algorithm AS 241: The percentage points of the normal distribution", Applied Statistics
 * 37, 1988. */
double rng_normal_quantile(double probability);

/* Fills `values` with `count` numbers uniform in [low, high), counters from 0. */
void rng_fill_uniform(uint64_t seed, uint64_t stream, size_t count, float low, float high, float *values);

/* A 64-bit key from a text, to give each named thing a stream of its own (FNV-1a, mixed). */
uint64_t rng_key(const char *text);

/* 64 bits that nobody can guess, from the system (getrandom). */
uint64_t rng_system(void);

#endif
