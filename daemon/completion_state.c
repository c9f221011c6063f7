/* States of texts in requests and replies: what a completion goes on from, and where its texts end. Thread: loop; run
 * threads for large bodies and replies. Owns nothing. */
#include "daemon/completion_private.h"
#include "engine/base/mem.h"
#include "engine/base/rng.h"

enum status completion_take_state(struct completion *completion, struct error *error)
{
    const struct generate_request *fields = &completion->fields;
    if (fields->return_state && completion->form == FORM_TEXT && !fields->stream) {
        error_set(error, STATUS_INVALID, "bare text has no place for a state");
        snprintf(error->param, sizeof error->param, "return_state");
        return STATUS_INVALID;
    }
    if (fields->state == NULL) {
        return STATUS_OK;
    }
    enum status status = text_state_read_base64(fields->state, fields->state_length, &completion->from, error);
    if (status != STATUS_OK) {
        snprintf(error->param, sizeof error->param, "state");
    }
    return status;
}

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
    return completion->fields.return_state;
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

bool completion_show_cached(const struct completion *completion, json_t *usage)
{
    if (completion->from == NULL) {
        return true;
    }
    json_int_t pending = (json_int_t)text_state_head(completion->from)->pending_count;
    json_int_t total = (json_int_t)text_state_symbol_count(completion->from);
    json_t *details = json_pack("{s:I, s:I}", "restored_tokens", total - pending + 1, "replayed_tokens", pending - 1);
    return json_object_set_new(usage, "prompt_tokens_details", details) == 0;
}
