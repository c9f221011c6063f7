/* Philox4x32-10 and what is derived from it. Thread: any; no state. */
#include "engine/base/rng.h"

#include <math.h>
#include <sys/random.h>

#include "engine/base/check.h"

struct rng_words rng_philox(uint64_t seed, uint64_t stream, uint64_t counter)
{
    uint32_t key0 = (uint32_t)seed;
    uint32_t key1 = (uint32_t)(seed >> 32);
    uint32_t c0 = (uint32_t)counter;
    uint32_t c1 = (uint32_t)(counter >> 32);
    uint32_t c2 = (uint32_t)stream;
    uint32_t c3 = (uint32_t)(stream >> 32);
    for (int round = 0; round < RNG_PHILOX_ROUNDS; round++) {
        rng_philox_round(&c0, &c1, &c2, &c3, key0, key1);
        key0 += RNG_PHILOX_KEY0;
        key1 += RNG_PHILOX_KEY1;
    }
    return (struct rng_words){{c0, c1, c2, c3}};
}

double rng_uniform(uint64_t seed, uint64_t stream, uint64_t counter)
{
    return (double)(rng_bits(seed, stream, counter) >> 11) * 0x1p-53;
}

uint64_t rng_bits(uint64_t seed, uint64_t stream, uint64_t counter)
{
    struct rng_words words = rng_philox(seed, stream, counter);
    return (uint64_t)words.word[0] << 32 | words.word[1];
}

/* ---- normal numbers ---- */

/* The natural logarithm of a positive normal number: x = m 2^e with m around 1, log m = 2 artanh((m − 1)/(m + 1)). */
static double logarithm(double x)
{
    int exponent = 0;
    double m = frexp(x, &exponent);
    if (m < 0.70710678118654752440) {
        m *= 2;
        exponent--;
    }
    double s = (m - 1) / (m + 1);
    double square = s * s;
    double series = 0;
    for (int k = 12; k >= 0; k--) {
        series = series * square + 1.0 / (2 * k + 1);
    }
    return exponent * 0.69314718055994530942 + 2 * s * series;
}

/* numerator(x) / denominator(x), eight coefficients each, the constant ones first. */
static double rational(const double numerator[8], const double denominator[8], double x)
{
    double above = 0;
    double below = 0;
    for (int i = 7; i >= 0; i--) {
        above = above * x + numerator[i];
        below = below * x + denominator[i];
    }
    return above / below;
}

double rng_normal_quantile(double probability)
{
    static const double a[] = {3.3871328727963666080e0,  1.3314166789178437745e+2, 1.9715909503065514427e+3,
                               1.3731693765509461125e+4, 4.5921953931549871457e+4, 6.7265770927008700853e+4,
                               3.3430575583588128105e+4, 2.5090809287301226727e+3};
    static const double b[] = {1.0,
                               4.2313330701600911252e+1,
                               6.8718700749205790830e+2,
                               5.3941960214247511077e+3,
                               2.1213794301586595867e+4,
                               3.9307895800092710610e+4,
                               2.8729085735721942674e+4,
                               5.2264952788528545610e+3};
    static const double c[] = {1.42343711074968357734e0,  4.63033784615654529590e0, 5.76949722146069140550e0,
                               3.64784832476320460504e0,  1.27045825245236838258e0, 2.41780725177450611770e-1,
                               2.27238449892691845833e-2, 7.74545014278341407640e-4};
    static const double d[] = {1.0,
                               2.05319162663775882187e0,
                               1.67638483018380384940e0,
                               6.89767334985100004550e-1,
                               1.48103976427480074590e-1,
                               1.51986665636164571966e-2,
                               5.47593808499534494600e-4,
                               1.05075007164441684324e-9};
    static const double e[] = {6.65790464350110377720e0,  5.46378491116411436990e0,  1.78482653991729133580e0,
                               2.96560571828504891230e-1, 2.65321895265761230930e-2, 1.24266094738807843860e-3,
                               2.71155556874348757815e-5, 2.01033439929228813265e-7};
    static const double f[] = {1.0,
                               5.99832206555887937690e-1,
                               1.36929880922735805310e-1,
                               1.48753612908506148525e-2,
                               7.86869131145613259100e-4,
                               1.84631831751005468180e-5,
                               1.42151175831644588870e-7,
                               2.04426310338993978564e-15};
    CHECK(probability > 0 && probability < 1);
    double q = probability - 0.5;
    if (fabs(q) <= 0.425) {
        return q * rational(a, b, 0.180625 - q * q);
    }
    double r = sqrt(-logarithm(q < 0 ? probability : 1 - probability));
    double x = r <= 5 ? rational(c, d, r - 1.6) : rational(e, f, r - 5);
    return q < 0 ? -x : x;
}

/* In (0, 1), so that both it and its distance from 1 are exact. */
static double open_uniform(uint64_t seed, uint64_t stream, uint64_t counter)
{
    return ((double)(rng_bits(seed, stream, counter) >> 12) + 0.5) * 0x1p-52;
}

double rng_normal(uint64_t seed, uint64_t stream, uint64_t counter)
{
    return rng_normal_quantile(open_uniform(seed, stream, counter));
}

double rng_truncated_normal(uint64_t seed, uint64_t stream, uint64_t counter)
{
    const double below = 0.022750131948179207200; /* the probability of less than −2 */
    double probability = below + (1 - 2 * below) * open_uniform(seed, stream, counter);
    double x = rng_normal_quantile(probability);
    return x < -2 ? -2 : x > 2 ? 2 : x;
}

void rng_fill_uniform(uint64_t seed, uint64_t stream, size_t count, float low, float high, float *values)
{
    for (size_t i = 0; i < count; i += 4) {
        struct rng_words words = rng_philox(seed, stream, i / 4);
        for (size_t lane = 0; lane < 4 && i + lane < count; lane++) {
            values[i + lane] = low + (high - low) * ((float)(words.word[lane] >> 8) * 0x1p-24f);
        }
    }
}

uint64_t rng_key(const char *text)
{
    uint64_t hash = 0xCBF29CE484222325u;
    for (const char *c = text; *c != '\0'; c++) {
        hash = (hash ^ (unsigned char)*c) * 0x100000001B3u;
    }
    hash ^= hash >> 32;
    hash *= 0xD6E8FEB86659FD93u;
    return hash ^ hash >> 32;
}

uint64_t rng_system(void)
{
    uint64_t bits;
    CHECK(getrandom(&bits, sizeof bits, 0) == sizeof bits);
    return bits;
}
