/* Philox4x32-10 and what is derived from it. Thread: any; no state. */
#include "engine/base/rng.h"

#include <sys/random.h>

#include "engine/base/check.h"

enum { PHILOX_ROUNDS = 10 };

struct rng_words rng_philox(uint64_t seed, uint64_t stream, uint64_t counter)
{
    uint32_t key0 = (uint32_t)seed;
    uint32_t key1 = (uint32_t)(seed >> 32);
    uint32_t c0 = (uint32_t)counter;
    uint32_t c1 = (uint32_t)(counter >> 32);
    uint32_t c2 = (uint32_t)stream;
    uint32_t c3 = (uint32_t)(stream >> 32);
    for (int round = 0; round < PHILOX_ROUNDS; round++) {
        uint64_t product0 = (uint64_t)0xD2511F53u * c0;
        uint64_t product1 = (uint64_t)0xCD9E8D57u * c2;
        uint32_t next0 = (uint32_t)(product1 >> 32) ^ c1 ^ key0;
        uint32_t next2 = (uint32_t)(product0 >> 32) ^ c3 ^ key1;
        c1 = (uint32_t)product1;
        c3 = (uint32_t)product0;
        c0 = next0;
        c2 = next2;
        key0 += 0x9E3779B9u;
        key1 += 0xBB67AE85u;
    }
    return (struct rng_words){{c0, c1, c2, c3}};
}

double rng_uniform(uint64_t seed, uint64_t stream, uint64_t counter)
{
    struct rng_words words = rng_philox(seed, stream, counter);
    uint64_t bits = ((uint64_t)words.word[0] << 32 | words.word[1]) >> 11;
    return (double)bits * 0x1p-53;
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
