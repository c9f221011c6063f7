/* Which completions may begin: what the queue and their keys have room for. Thread: loop. Owns nothing. */
#include "daemon/completion_private.h"

#include "daemon/routes.h"
#include "engine/base/clock.h"

enum { SHARE_OF_FREE = 8 };

enum status completion_check_share(const struct completion *completion, uint64_t held, uint64_t more, uint64_t free,
                                   const char *what, struct error *error)
{
    const char *key = completion_owner(completion);
    if (key[0] == '\0' || held == 0 || (more <= free && held + more <= SHARE_OF_FREE * (free - more))) {
        return STATUS_OK;
    }
    error_set(error, STATUS_LIMIT,
              "key %s: %llu %s are being made or wait, and %llu more would leave too little of the queue for others",
              key, (unsigned long long)held, what, (unsigned long long)more);
    return error_code(error, "queue_share");
}

static enum status check_shares(const struct completion *completion, struct error *error)
{
    const struct completions *owner = completion->owner;
    const struct settings *settings = &owner->server->settings;
    size_t flow = completion_flow(completion);
    uint64_t free_texts =
        settings->generations_max > owner->text_count ? settings->generations_max - owner->text_count : 0;
    TRY(completion_check_share(completion, owner->flow_text_counts[flow], completion->choice_count, free_texts, "texts",
                               error));
    return completion_check_share(completion, owner->flow_predicted_symbols[flow], completion->predicted_symbols,
                                  settings->queue_symbols_max - owner->predicted_symbols, "symbols", error);
}

static void count(struct completion *completion, bool is_taken)
{
    struct completions *owner = completion->owner;
    size_t flow = completion_flow(completion);
    uint64_t texts = is_taken ? completion->choice_count : -(uint64_t)completion->choice_count;
    uint64_t symbols = is_taken ? completion->predicted_symbols : -completion->predicted_symbols;
    owner->text_count += texts;
    owner->flow_text_counts[flow] += texts;
    owner->predicted_symbols += symbols;
    owner->flow_predicted_symbols[flow] += symbols;
}

enum status completion_admit(struct completion *completion, struct error *error)
{
    struct completions *owner = completion->owner;
    struct server *server = owner->server;
    uint64_t symbols = completion->predicted_symbols;
    uint64_t symbols_max = server->settings.queue_symbols_max;
    if (symbols > symbols_max) {
        error_set(error, STATUS_TOO_LARGE, "the texts have up to %llu symbols together, at most %llu",
                  (unsigned long long)symbols, (unsigned long long)symbols_max);
        return error_code(error, "too_many_symbols");
    }
    if (owner->predicted_symbols > symbols_max - symbols) {
        error_set(
            error, STATUS_LIMIT, "texts of %llu symbols are being made or wait, %llu more are over the maximum, %llu",
            (unsigned long long)owner->predicted_symbols, (unsigned long long)symbols, (unsigned long long)symbols_max);
        return error_code(error, "queue_full");
    }
    TRY(check_shares(completion, error));
    struct limit_holder holder = caller_holder(request_caller(completion->request));
    TRY(limits_take_texts(server->limits, &holder, completion->choice_count, symbols, clock_now_ms(),
                          &completion->account, error));
    completion->is_admitted = true;
    count(completion, true);
    return STATUS_OK;
}

void completion_give_back(struct completion *completion)
{
    if (!completion->is_admitted) {
        return;
    }
    uint64_t used = 0;
    size_t replayed = completion_replayed_count(completion);
    for (size_t i = 0; i < completion->choice_count; i++) {
        size_t own = completion->choices[i].prompt_count + completion->choices[i].token_count;
        used += own == 0 ? 0 : replayed + own; /* the state's come first */
    }
    if (completion->beam_width > 0 && used > 0) { /* the steps of its searches are nobody's symbols */
        used = completion->predicted_symbols;
    }
    count(completion, false);
    limits_return_texts(completion->account, completion->choice_count,
                        completion->predicted_symbols -
                            (used < completion->predicted_symbols ? used : completion->predicted_symbols));
}
