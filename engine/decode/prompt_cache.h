/* States of prompts that were read, kept at borders, so that another prompt with the same beginning does not read it
 * again. There is a border behind each chunk, and one before the prompt's last symbol: what is kept there serves the
 * same prompt, or one with another last symbol, and is kept from the second time on, so that prompts of which none
 * comes again take no room from beginnings that do. A border is known by a chain of SHA-256 sums over whose model it
 * is, how that is packed, for whom it was read, and every symbol before it: equal keys are equal prompts, and what is
 * found there is what would have been computed. The states read longest ago go when there is no room. For packed plans
 * only: a stepper's states may depend on random numbers. Thread: any; owns its states. */
#ifndef ENGINE_DECODE_PROMPT_CACHE_H
#define ENGINE_DECODE_PROMPT_CACHE_H

#include "engine/decode/decode_plan.h"
#include "engine/decode/text_state.h"

enum { PROMPT_CACHE_CHUNK = 64, PROMPT_CACHE_KEY_BYTES = 32 };

struct prompt_cache;

/* A border of a prompt. */
struct prompt_border {
    uint8_t key[PROMPT_CACHE_KEY_BYTES];
    size_t symbol_count; /* before it */
};

/* At most `bytes_max` bytes of states. NO_MEMORY. Owned. */
enum status prompt_cache_create(size_t bytes_max, struct prompt_cache **ret_cache, struct error *error) MUST_CHECK;
/* When nobody reads or keeps any more. NULL is allowed. */
void prompt_cache_destroy(struct prompt_cache *cache);

/* The last border before the last symbol of the prompt whose state is kept: loads it into the slot (its parity 0) and
 * returns true. Otherwise `ret_border` is the prompt's beginning. `owner` is for whom it is read. */
bool prompt_cache_load(struct prompt_cache *cache, const struct decode_plan *plan, const struct text_origin *origin,
                       const char *owner, const uint32_t *prompt, size_t prompt_count, float *slot,
                       struct prompt_border *ret_border) MUST_CHECK;

/* Moves the border on to the next one, over `count` symbols (1 to a chunk; fewer than a chunk: up to the prompt's
 * last), and keeps the slot's state there. Without memory it is not kept. */
void prompt_cache_keep(struct prompt_cache *cache, const struct decode_plan *plan, struct prompt_border *border,
                       const uint32_t *symbols, size_t count, const float *slot, unsigned parity);

struct prompt_cache_counters {
    size_t count; /* states */
    size_t bytes;
    uint64_t symbols_found; /* that were not read again */
};
struct prompt_cache_counters prompt_cache_counters(struct prompt_cache *cache);

#endif
