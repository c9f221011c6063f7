/* Log-probabilities in a reply, in OpenAI's form: four arrays side by side. Thread: loop, run threads for long replies.
 * Owns nothing.
 *
 * Symbols are told with the text they wrote: those that stop strings still hold back wait with it, those that a stop
 * string cut off are left out. So a stream and a whole reply tell the same. */
#include "daemon/completion_private.h"

#include <math.h>

#include "engine/base/check.h"

size_t completion_name_symbol(const struct vocabulary *vocabulary, uint32_t symbol, struct text_position begin,
                              char name[SYMBOL_NAME_BYTES_MAX])
{
    size_t length = generation_spell(vocabulary, symbol, begin, name);
    unsigned char byte = (unsigned char)name[0];
    if (vocabulary_kind(vocabulary) == VOCABULARY_BYTES && byte >= 0x80) {
        return (size_t)snprintf(name, SYMBOL_NAME_BYTES_MAX, "bytes:\\x%02x", byte);
    }
    return length;
}

static size_t name_symbol(const struct choice *choice, uint32_t symbol, const struct symbol_logprob *entry,
                          char name[SYMBOL_NAME_BYTES_MAX])
{
    const struct vocabulary *vocabulary = snapshot_vocabulary(choice->completion->snapshot);
    return completion_name_symbol(vocabulary, symbol, entry->begin, name);
}

/* {"e": -0.5, …}: the likeliest and the symbol itself. New reference, NULL without memory. */
static json_t *make_top(const struct choice *choice, const struct symbol_logprob *entry, const char *name,
                        size_t length)
{
    json_t *top = json_object();
    bool is_whole = true;
    for (size_t i = 0; i < entry->top_count; i++) {
        char other[SYMBOL_NAME_BYTES_MAX];
        size_t other_length = name_symbol(choice, entry->top_symbols[i], entry, other);
        json_t *logprob = json_real((double)entry->top_logprobs[i]);
        is_whole = json_object_setn_new(top, other, other_length, logprob) == 0 && is_whole;
    }
    is_whole = json_object_setn_new(top, name, length, json_real((double)entry->logprob)) == 0 && is_whole;
    if (!is_whole) {
        json_decref(top);
        return NULL;
    }
    return top;
}

static bool append(json_t *logprobs, const char *name, json_t *value)
{
    return json_array_append_new(json_object_get(logprobs, name), value) == 0;
}

/* False without memory: then the arrays are no longer side by side. */
static bool append_entry(struct choice *choice, const struct symbol_logprob *entry)
{
    char name[SYMBOL_NAME_BYTES_MAX];
    size_t length = name_symbol(choice, entry->symbol, entry, name);
    bool is_first = isnan(entry->logprob); /* nothing stood before it */
    json_t *logprobs = choice->logprobs;
    if (choice->completion->door == DOOR_OIP && !append(logprobs, "ids", json_integer((json_int_t)entry->symbol))) {
        return false;
    }
    return append(logprobs, "tokens", json_stringn(name, length)) &&
           append(logprobs, "token_logprobs", is_first ? json_null() : json_real((double)entry->logprob)) &&
           append(logprobs, "top_logprobs", is_first ? json_null() : make_top(choice, entry, name, length)) &&
           append(logprobs, "text_offset", json_integer((json_int_t)entry->begin.characters));
}

void completion_take_logprobs(struct choice *choice, enum finish_reason finish)
{
    const struct completion *completion = choice->completion;
    bool is_wanted = generate_request_is_given(&completion->fields, "logprobs") && choice->failure.status == STATUS_OK;
    struct generation *generation = choice->generation == NULL ? choice->scored : choice->generation;
    if (generation == NULL || !is_wanted) {
        return;
    }
    bool is_cut = choice->is_cut || finish == FINISH_STOP;
    size_t count;
    const struct symbol_logprob *entries = generation_logprobs(generation, &count);
    for (; choice->logprob_count < count; choice->logprob_count++) {
        const struct symbol_logprob *entry = &entries[choice->logprob_count];
        bool is_begun = entry->begin.bytes < choice->shown_bytes;
        bool is_out = is_begun && entry->end_bytes <= choice->shown_bytes;
        if (!is_out && (finish == FINISH_NONE || (is_cut && !is_begun))) {
            return;
        }
        if (choice->logprobs == NULL) {
            choice->logprobs =
                json_pack("{s:[], s:[], s:[], s:[]}", "tokens", "token_logprobs", "top_logprobs", "text_offset");
            if (choice->completion->door == DOOR_OIP) {
                json_object_set_new(choice->logprobs, "ids", json_array());
            }
        }
        if (!append_entry(choice, entry)) {
            error_set(&choice->failure, STATUS_NO_MEMORY, "no memory for the logprobs of symbol %zu",
                      choice->logprob_count);
            json_decref(choice->logprobs);
            choice->logprobs = NULL;
            generation_cancel(generation);
            return;
        }
    }
}
