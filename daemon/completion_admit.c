/* Which completions may begin: what the queue and their keys have room for. Thread: loop. Owns nothing. */
#include "daemon/completion_private.h"

#include "daemon/routes.h"
#include "engine/base/clock.h"

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
    struct limit_holder holder = caller_holder(request_caller(completion->request));
    TRY(limits_take_texts(server->limits, &holder, completion->choice_count, symbols, clock_now_ms(),
                          &completion->account, error));
    completion->is_admitted = true;
    owner->predicted_symbols += symbols;
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
    completion->owner->predicted_symbols -= completion->predicted_symbols;
    limits_return_texts(completion->account, completion->choice_count,
                        completion->predicted_symbols -
                            (used < completion->predicted_symbols ? used : completion->predicted_symbols));
}
