/* A hash table of states in order of use. Threads: any, one at a time by the lock, which is held for looking up and
 * linking alone; states are referenced, and copied without it. */
#include "engine/decode/prompt_cache.h"

#include <nettle/sha2.h>
#include <pthread.h>
#include <stdatomic.h>

#include "engine/base/check.h"
#include "engine/base/mem.h"
#include "engine/decode/decode_plan_layout.h"

enum { BUCKETS = 1 << 14 };

struct kept_state {
    _Atomic size_t references; /* the table's, and of who is copying */
    struct kept_state *next;   /* in its bucket */
    struct kept_state *newer, *older;
    uint8_t key[PROMPT_CACHE_KEY_BYTES];
    size_t bytes; /* of all of this */
    _Alignas(MEM_ALIGNMENT_BYTES) char state[];
};

struct prompt_cache {
    pthread_mutex_t lock;
    size_t bytes_max;
    struct prompt_cache_counters counters;
    struct kept_state *newest, *oldest;
    struct kept_state *buckets[BUCKETS];
    uint32_t last_seen[BUCKETS]; /* of each bucket's prompts, the one whose end was passed last: bits of its key */
};

enum status prompt_cache_create(size_t bytes_max, struct prompt_cache **ret_cache, struct error *error)
{
    struct prompt_cache *cache = mem_allocate(1, sizeof *cache);
    if (cache == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for a prompt cache");
    }
    CHECK(pthread_mutex_init(&cache->lock, NULL) == 0);
    cache->bytes_max = bytes_max;
    *ret_cache = cache;
    return STATUS_OK;
}

static void unref(struct kept_state *state)
{
    if (atomic_fetch_sub(&state->references, 1) == 1) {
        mem_free(state);
    }
}

void prompt_cache_destroy(struct prompt_cache *cache)
{
    if (cache == NULL) {
        return;
    }
    struct kept_state *older;
    for (struct kept_state *state = cache->newest; state != NULL; state = older) {
        older = state->older;
        unref(state);
    }
    CHECK(pthread_mutex_destroy(&cache->lock) == 0);
    mem_free(cache);
}

/* ---- under the lock ---- */

static size_t bucket_of(const uint8_t key[PROMPT_CACHE_KEY_BYTES])
{
    uint32_t bits;
    memcpy(&bits, key, sizeof bits);
    return bits % BUCKETS;
}

static struct kept_state **find_link(struct prompt_cache *cache, const uint8_t key[PROMPT_CACHE_KEY_BYTES])
{
    struct kept_state **link = &cache->buckets[bucket_of(key)];
    while (*link != NULL && memcmp((*link)->key, key, PROMPT_CACHE_KEY_BYTES) != 0) {
        link = &(*link)->next;
    }
    return link;
}

static void unlink_use(struct prompt_cache *cache, struct kept_state *state)
{
    *(state->newer == NULL ? &cache->newest : &state->newer->older) = state->older;
    *(state->older == NULL ? &cache->oldest : &state->older->newer) = state->newer;
}

static void link_newest(struct prompt_cache *cache, struct kept_state *state)
{
    state->newer = NULL;
    state->older = cache->newest;
    *(cache->newest == NULL ? &cache->oldest : &cache->newest->newer) = state;
    cache->newest = state;
}

static void drop_oldest(struct prompt_cache *cache)
{
    struct kept_state *state = cache->oldest;
    CHECK(state != NULL);
    struct kept_state **link = find_link(cache, state->key);
    CHECK(*link == state);
    *link = state->next;
    unlink_use(cache, state);
    cache->counters.count--;
    cache->counters.bytes -= state->bytes;
    unref(state);
}

/* The state, moved to the newest, or NULL. */
static struct kept_state *touch(struct prompt_cache *cache, const uint8_t key[PROMPT_CACHE_KEY_BYTES])
{
    struct kept_state *state = *find_link(cache, key);
    if (state != NULL) {
        unlink_use(cache, state);
        link_newest(cache, state);
    }
    return state;
}

/* ---- borders ---- */

static void begin(const struct decode_plan *plan, const struct text_origin *origin, const char *owner,
                  struct prompt_border *ret_border)
{
    struct sha256_ctx context;
    const char *precision = rnn_precision_name(decode_plan_precision(plan));
    const char *kernels = decode_plan_kernels(plan);
    sha256_init(&context);
    sha256_update(&context, sizeof origin->digest, origin->digest);
    sha256_update(&context, strlen(precision) + 1, (const uint8_t *)precision);
    sha256_update(&context, strlen(kernels) + 1, (const uint8_t *)kernels);
    sha256_update(&context, strlen(owner) + 1, (const uint8_t *)owner);
    sha256_digest(&context, sizeof ret_border->key, ret_border->key);
    ret_border->symbol_count = 0;
}

static void move_on(struct prompt_border *border, const uint32_t *symbols, size_t count)
{
    struct sha256_ctx context;
    sha256_init(&context);
    sha256_update(&context, sizeof border->key, border->key);
    sha256_update(&context, count * sizeof *symbols, (const uint8_t *)symbols);
    sha256_digest(&context, sizeof border->key, border->key);
    border->symbol_count += count;
}

/* Among borders, the last whose state is kept: a reference of it, or NULL. */
static struct kept_state *find_last(struct prompt_cache *cache, const struct prompt_border *borders, size_t count,
                                    size_t *ret_index)
{
    struct kept_state *state = NULL;
    CHECK(pthread_mutex_lock(&cache->lock) == 0);
    for (size_t i = count; i > 0 && state == NULL; i--) {
        state = touch(cache, borders[i - 1].key);
        *ret_index = i - 1;
    }
    if (state != NULL) {
        atomic_fetch_add(&state->references, 1);
        cache->counters.symbols_found += borders[*ret_index].symbol_count;
    }
    CHECK(pthread_mutex_unlock(&cache->lock) == 0);
    return state;
}

bool prompt_cache_load(struct prompt_cache *cache, const struct decode_plan *plan, const struct text_origin *origin,
                       const char *owner, const uint32_t *prompt, size_t prompt_count, float *slot,
                       struct prompt_border *ret_border)
{
    begin(plan, origin, owner, ret_border);
    size_t count = (prompt_count - 1 + PROMPT_CACHE_CHUNK - 1) / PROMPT_CACHE_CHUNK;
    struct prompt_border *borders = count == 0 ? NULL : mem_allocate(count, sizeof *borders);
    if (borders == NULL) {
        return false;
    }
    struct prompt_border border = *ret_border;
    for (size_t i = 0; i < count; i++) {
        size_t left = prompt_count - 1 - border.symbol_count;
        move_on(&border, prompt + border.symbol_count, left < PROMPT_CACHE_CHUNK ? left : PROMPT_CACHE_CHUNK);
        borders[i] = border;
    }
    size_t index = 0;
    struct kept_state *state = find_last(cache, borders, count, &index);
    bool is_loaded = state != NULL && decode_plan_load_state(plan, state->state, slot, NULL) == STATUS_OK;
    if (is_loaded) {
        *ret_border = borders[index];
    }
    if (state != NULL) {
        unref(state);
    }
    mem_free(borders);
    return is_loaded;
}

/* Whether the state at a border is not kept and shall be: at the end of a prompt where it is seen again. */
static bool is_wanted(struct prompt_cache *cache, const uint8_t key[PROMPT_CACHE_KEY_BYTES], bool is_end)
{
    uint32_t bits; /* others than those of its bucket; where two prompts have the same, one is kept a time too early */
    memcpy(&bits, key + sizeof bits, sizeof bits);
    CHECK(pthread_mutex_lock(&cache->lock) == 0);
    uint32_t *last_seen = &cache->last_seen[bucket_of(key)];
    bool is_kept = touch(cache, key) != NULL;
    bool is_first = is_end && *last_seen != bits;
    if (is_end) {
        *last_seen = bits;
    }
    CHECK(pthread_mutex_unlock(&cache->lock) == 0);
    return !is_kept && !is_first;
}

void prompt_cache_keep(struct prompt_cache *cache, const struct decode_plan *plan, struct prompt_border *border,
                       const uint32_t *symbols, size_t count, const float *slot, unsigned parity)
{
    move_on(border, symbols, count);
    size_t bytes = sizeof(struct kept_state) + decode_plan_state_bytes(plan);
    bool is_wanted_now = bytes <= cache->bytes_max && is_wanted(cache, border->key, count < PROMPT_CACHE_CHUNK);
    struct kept_state *state = is_wanted_now ? mem_allocate_aligned_raw(bytes, 1) : NULL;
    if (state == NULL) {
        return;
    }
    atomic_init(&state->references, 1);
    state->bytes = bytes;
    memcpy(state->key, border->key, sizeof state->key);
    decode_plan_save_state(plan, slot, parity, state->state);
    CHECK(pthread_mutex_lock(&cache->lock) == 0);
    struct kept_state **link = find_link(cache, state->key);
    bool is_new = *link == NULL; /* another row may have come by meanwhile */
    if (is_new) {
        state->next = NULL;
        *link = state;
        link_newest(cache, state);
        cache->counters.count++;
        cache->counters.bytes += bytes;
    }
    while (cache->counters.bytes > cache->bytes_max) {
        drop_oldest(cache);
    }
    CHECK(pthread_mutex_unlock(&cache->lock) == 0);
    if (!is_new) {
        mem_free(state);
    }
}

struct prompt_cache_counters prompt_cache_counters(struct prompt_cache *cache)
{
    CHECK(pthread_mutex_lock(&cache->lock) == 0);
    struct prompt_cache_counters counters = cache->counters;
    CHECK(pthread_mutex_unlock(&cache->lock) == 0);
    return counters;
}
