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

/* One of its rounds, for loops that go through many counters side by side: c starts as counter and stream, low word
 * first; the key as the seed's two words, which grow by RNG_PHILOX_KEY0 and 1 from round to round. */
#define RNG_PHILOX_KEY0 0x9E3779B9u
#define RNG_PHILOX_KEY1 0xBB67AE85u
enum { RNG_PHILOX_ROUNDS = 10 };
static inline void rng_philox_round(uint32_t *c0, uint32_t *c1, uint32_t *c2, uint32_t *c3, uint32_t key0,
                                    uint32_t key1)
{
    uint64_t product0 = (uint64_t)0xD2511F53u * *c0;
    uint64_t product1 = (uint64_t)0xCD9E8D57u * *c2;
    *c0 = (uint32_t)(product1 >> 32) ^ *c1 ^ key0;
    *c2 = (uint32_t)(product0 >> 32) ^ *c3 ^ key1;
    *c1 = (uint32_t)product1;
    *c3 = (uint32_t)product0;
}

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
