/* All completions there are: counting, listing, cancelling. Thread: loop. Owns the list. */
#include "daemon/completion_private.h"

#include "engine/base/check.h"
#include "engine/base/clock.h"
#include "engine/base/mem.h"

enum status completions_create(struct server *server, struct completions **ret_completions, struct error *error)
{
    struct completions *completions = mem_allocate(1, sizeof *completions);
    if (completions == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for completions");
    }
    completions->server = server;
    completions->message.deliver = completions_on_message;
    CHECK(pthread_mutex_init(&completions->lock, NULL) == 0);
    *ret_completions = completions;
    return STATUS_OK;
}

void completions_destroy(struct completions *completions)
{
    if (completions != NULL) {
        CHECK(completions->count == 0);
        pthread_mutex_destroy(&completions->lock);
        mem_free(completions);
    }
}

size_t completions_cancel(struct completions *completions, const char *id, const char *key)
{
    size_t count = 0;
    const char *bare = strncmp(id, "cmpl-", 5) == 0 ? id + 5 : strncmp(id, "chatcmpl-", 9) == 0 ? id + 9 : id;
    for (struct completion *completion = completions->first; completion != NULL; completion = completion->next) {
        const char *its_id = request_id(completion->request);
        bool is_its_own = key == NULL || strcmp(key, completion_owner(completion)) == 0;
        if (!completion->is_over && is_its_own && (strcmp(its_id, bare) == 0 || strcmp(its_id, id) == 0)) {
            completion_cancel(completion);
            count++;
        }
    }
    return count;
}

void completions_cancel_all(struct completions *completions)
{
    for (struct completion *completion = completions->first; completion != NULL; completion = completion->next) {
        completion_cancel(completion);
    }
}

void completions_cancel_model(struct completions *completions, const char *model)
{
    for (struct completion *completion = completions->first; completion != NULL; completion = completion->next) {
        if (completion->snapshot != NULL && strcmp(snapshot_model_name(completion->snapshot), model) == 0) {
            completion_cancel(completion);
        }
    }
}

size_t completions_count(const struct completions *completions)
{
    return completions->count;
}

size_t completions_adapting_count(const struct completions *completions)
{
    return completions->adapting_count;
}

json_t *completions_describe(const struct completions *completions)
{
    json_t *list = json_array();
    for (struct completion *completion = completions->first; completion != NULL && list != NULL;
         completion = completion->next) {
        size_t token_count = 0;
        for (size_t i = 0; i < completion->choice_count; i++) {
            const struct choice *choice = &completion->choices[i];
            /* before it is submitted, a job may be making the generation */
            token_count += completion->is_submitted && choice->generation != NULL
                               ? generation_progress(choice->generation).token_count
                               : choice->token_count;
        }
        char id[COMPLETION_ID_BYTES_MAX];
        completion_id(completion, id);
        json_t *entry =
            json_pack("{s:s, s:s, s:s, s:s, s:I, s:i, s:i, s:f}", "id", id, "object", "request", "model",
                      completion->model, "key", completion_owner(completion), "created",
                      (json_int_t)completion->created, "choices", (int)completion->choice_count, "completion_tokens",
                      (int)token_count, "seconds", (double)(clock_now_ns() - completion->started_ns) / 1e9);
        if (entry == NULL || json_array_append_new(list, entry) != 0) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}
