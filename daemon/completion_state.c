/* States of texts in requests and replies: what a completion goes on from, and where its texts end. Thread: loop; run
 * threads for large bodies and replies. Owns nothing. */
#include "daemon/callers.h"
#include "daemon/completion_private.h"
#include "daemon/routes.h"
#include "engine/base/mem.h"
#include "engine/base/rng.h"

static enum status refuse(struct error *error, const char *param)
{
    snprintf(error->param, sizeof error->param, "%s", param);
    return error->status;
}

const char *completion_owner(const struct completion *completion)
{
    const struct caller *caller = request_caller(completion->request);
    return caller == NULL ? "" : caller->key;
}

/* ---- sessions ---- */

enum status completion_enter_session(struct completion *completion, void (*granted)(struct session_turn *turn),
                                     struct error *error)
{
    const struct generate_request *fields = &completion->fields;
    if (fields->session == NULL && fields->session_start) {
        error_set(error, STATUS_INVALID, "session_start is only for a session");
        return refuse(error, "session_start");
    }
    if (fields->session == NULL) {
        return STATUS_OK;
    }
    if (fields->state != NULL) {
        error_set(error, STATUS_INVALID, "a session has its own state");
        return refuse(error, "state");
    }
    if (fields->n > 1 || fields->best_of > 1 || fields->prompt_count > 1) {
        error_set(error, STATUS_INVALID, "a session goes on with one text: one prompt, n 1 and best_of 1");
        return refuse(error, "session");
    }
    completion->session_turn.granted = granted;
    enum status status = sessions_enter(completion->owner->server->sessions, completion_owner(completion),
                                        fields->session, fields->session_start, &completion->session_turn, error);
    return status == STATUS_OK ? status : refuse(error, "session");
}

struct completion *completion_of_turn(struct session_turn *turn)
{
    return (struct completion *)(void *)((char *)turn - offsetof(struct completion, session_turn));
}

/* Whether anybody has read something of its text. */
static bool was_sent(const struct completion *completion)
{
    const struct choice *choice = &completion->choices[0];
    if (completion->form == FORM_JSON) {
        return !completion->is_abandoned && choice->failure.status == STATUS_OK;
    }
    return choice->taken_bytes > 0 || (!completion->is_abandoned && choice->failure.status == STATUS_OK);
}

void completion_leave_session(struct completion *completion)
{
    bool is_changed = completion->choice_count > 0 && was_sent(completion);
    sessions_leave(completion->owner->server->sessions, &completion->session_turn,
                   is_changed ? completion->choices[0].state : NULL);
}

/* Whether two references are of one model, whatever version or label they name. */
static bool is_same_model(const char *a, const char *b)
{
    size_t length = strcspn(a, "@:");
    return length == strcspn(b, "@:") && memcmp(a, b, length) == 0;
}

enum status completion_take_state(struct completion *completion, const char **reference,
                                  char model[TEXT_STATE_MODEL_BYTES_MAX], struct error *error)
{
    const struct generate_request *fields = &completion->fields;
    const struct session *session = completion->session_turn.session;
    if (fields->return_state && completion->form == FORM_TEXT && !fields->stream) {
        error_set(error, STATUS_INVALID, "bare text has no place for a state");
        return refuse(error, "return_state");
    }
    if (fields->state != NULL) {
        enum status status = text_state_read_base64(fields->state, fields->state_length, &completion->from, error);
        return status == STATUS_OK ? status : refuse(error, "state");
    }
    if (session == NULL || fields->session_start) {
        return STATUS_OK;
    }
    if (session_check_begun(session, error) != STATUS_OK) {
        return refuse(error, "session");
    }
    session_model(session, model);
    if (*reference != NULL && !is_same_model(*reference, model)) {
        error_set(error, STATUS_INVALID, "session '%s' is of %s, not of '%.100s'", fields->session, model, *reference);
        return refuse(error, "model");
    }
    completion->from = text_state_ref(session_state(session));
    *reference = model;
    return STATUS_OK;
}

enum status completion_check_version(const struct completion *completion, enum status status, struct error *error)
{
    bool goes_on = completion->session_turn.session != NULL && !completion->fields.session_start;
    bool is_gone = status == STATUS_NOT_FOUND;
    if (status == STATUS_OK && goes_on && completion->from != NULL) {
        const struct text_origin *origin = snapshot_origin(completion->snapshot);
        is_gone = memcmp(origin->digest, text_state_head(completion->from)->digest, sizeof origin->digest) != 0;
    }
    if (!goes_on || !is_gone) {
        return status;
    }
    char model[TEXT_STATE_MODEL_BYTES_MAX];
    session_model(completion->session_turn.session, model);
    error_set(error, STATUS_UNPROCESSABLE, "session '%s' stays with %s, which is not there any more%s",
              completion->fields.session, model, status == STATUS_OK ? " as it was" : "");
    error_code(error, "session_version_gone");
    refuse(error, "session");
    return STATUS_UNPROCESSABLE;
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
