/* States of texts in requests and replies: what a completion goes on from, and where its texts end. Thread: loop; run
 * threads for large bodies and replies. Owns nothing. */
#include "daemon/callers.h"
#include "daemon/completion_private.h"
#include "daemon/routes.h"
#include "engine/base/mem.h"
#include "engine/base/rng.h"

const char *completion_owner(const struct completion *completion)
{
    const struct caller *caller = request_caller(completion->request);
    return caller == NULL ? "" : caller->key;
}

size_t completion_flow(const struct completion *completion)
{
    const struct caller *caller = request_caller(completion->request);
    return caller == NULL ? 0 : rng_bits(rng_key(caller->key), rng_key(caller->address), 0) % GENERATION_FLOW_COUNT;
}

/* ---- what texts go on from ---- */

enum status completion_read_state(struct completion *completion, struct error *error)
{
    const struct generate_request *fields = &completion->fields;
    if (fields->state == NULL) {
        return STATUS_OK;
    }
    enum status status = text_state_read_base64(fields->state, fields->state_length, &completion->from, error);
    return status == STATUS_OK ? status : completion_refuse_field(error, "state");
}

enum status completion_take_state(struct completion *completion, const char **reference,
                                  char model[TEXT_STATE_MODEL_BYTES_MAX], struct error *error)
{
    const struct generate_request *fields = &completion->fields;
    if (fields->return_state && completion->form == FORM_TEXT && !fields->stream) {
        error_set(error, STATUS_INVALID, "bare text has no place for a state");
        return completion_refuse_field(error, "return_state");
    }
    return completion_take_session(completion, reference, model, error);
}

/* ---- seeds and states ---- */

void completion_choose_seed(struct completion *completion, bool is_given)
{
    if (completion->from != NULL && !is_given) {
        completion->seed = text_state_head(completion->from)->seed;
    } else if (generate_request_is_given(&completion->fields, "seed")) {
        completion->seed = (uint64_t)completion->fields.seed;
    } else {
        completion->seed = rng_system() & ((UINT64_C(1) << 53) - 1);
    }
}

bool completion_wants_states(const struct completion *completion)
{
    return completion->fields.return_state || completion->session_turn.session != NULL;
}

void completion_keep_state(struct choice *choice)
{
    struct error error;
    if (completion_wants_states(choice->completion) &&
        generation_make_state(choice->generation, choice->taken_bytes, &choice->state, &error) != STATUS_OK &&
        choice->failure.status == STATUS_OK) {
        choice->failure = error;
    }
}

bool completion_show_state(struct choice *choice, json_t *object)
{
    if (!choice->completion->fields.return_state || choice->state == NULL) {
        return true;
    }
    char *text = text_state_write_base64(choice->state);
    bool is_set = text != NULL && json_object_set_new(object, "state", json_string(text)) == 0;
    mem_free(text);
    return is_set;
}

size_t completion_replayed_count(const struct completion *completion)
{
    return completion->from == NULL ? 0 : text_state_head(completion->from)->pending_count - 1;
}

bool completion_show_cached(const struct completion *completion, json_t *usage)
{
    size_t cached = 0;
    for (size_t i = 0; i < completion->choice_count; i += (size_t)completion->fields.best_of) {
        cached += completion->choices[i].cached_count;
    }
    if (cached == 0 && completion->from == NULL) {
        return true;
    }
    json_t *details = json_pack("{s:I}", "cached_tokens", (json_int_t)cached);
    bool is_whole = details != NULL;
    if (is_whole && completion->from != NULL) {
        json_int_t replayed = (json_int_t)completion_replayed_count(completion);
        json_int_t total = (json_int_t)text_state_symbol_count(completion->from);
        is_whole = json_object_set_new(details, "restored_tokens", json_integer(total - replayed)) == 0 &&
                   json_object_set_new(details, "replayed_tokens", json_integer(replayed)) == 0;
    }
    return json_object_set_new(usage, "prompt_tokens_details", details) == 0 && is_whole;
}
