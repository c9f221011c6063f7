/* Completions in named sessions: waiting for their turn, what they go on from, and what they leave. Thread: loop. Owns
 * nothing. */
#include "daemon/completion_private.h"
#include "daemon/registry.h"

enum status completion_refuse_field(struct error *error, const char *param)
{
    snprintf(error->param, sizeof error->param, "%s", param);
    return error->status;
}

static void on_granted(struct turn *turn)
{
    struct completion *completion =
        (struct completion *)(void *)((char *)turn - offsetof(struct completion, session_turn.turn));
    completion->is_waiting = false;
    uv_timer_stop(&completion->timer);
    completion_begin(completion);
}

enum status completion_enter_session(struct completion *completion, struct error *error)
{
    const struct generate_request *fields = &completion->fields;
    if (fields->session == NULL && fields->session_start) {
        error_set(error, STATUS_INVALID, "session_start is only for a session");
        return completion_refuse_field(error, "session_start");
    }
    if (fields->session == NULL) {
        return STATUS_OK;
    }
    if (fields->state != NULL) {
        error_set(error, STATUS_INVALID, "a session has its own state");
        return completion_refuse_field(error, "state");
    }
    if (fields->n > 1 || fields->best_of > 1 || fields->prompt_count > 1) {
        error_set(error, STATUS_INVALID, "a session goes on with one text: one prompt, n 1 and best_of 1");
        return completion_refuse_field(error, "session");
    }
    completion->session_turn.turn.granted = on_granted;
    enum status status = sessions_enter(completion->owner->server->sessions, completion_owner(completion),
                                        fields->session, fields->session_start, &completion->session_turn, error);
    if (status != STATUS_OK) {
        return completion_refuse_field(error, "session");
    }
    if (!completion->session_turn.turn.is_inside) {
        completion->is_waiting = true;
        completion_set_deadline(completion);
        completion_start_timer(completion, completion->deadline_ms);
        if (request_is_half_closed(completion->request)) { /* perhaps while its body was read */
            completion_on_gone(completion, completion->request);
        }
    }
    return STATUS_OK;
}

/* Whether anybody has read something of its text: of a reply as a whole, whether somebody was there to read it. */
static bool was_sent(const struct completion *completion)
{
    const struct choice *choice = &completion->choices[0];
    bool is_read = !completion->is_abandoned && !completion->is_given_up && choice->failure.status == STATUS_OK;
    return is_read || (completion->form != FORM_JSON && choice->taken_bytes > 0);
}

void completion_leave_session(struct completion *completion)
{
    struct sessions *sessions = completion->owner->server->sessions;
    bool is_changed = completion->choice_count > 0 && was_sent(completion);
    struct adapted_weights *adapted = completion_adapted(completion);
    is_changed = is_changed && (adapted != NULL || !completion->adapts);
    struct text_state *state = is_changed ? completion->choices[0].state : NULL;
    bool is_end = state != NULL && completion->session_turn.turn.is_inside && completion_oip_ends_session(completion);
    sessions_leave(sessions, &completion->session_turn, state, adapted);
    if (is_end) {
        struct error ignored; /* one that waited is inside by now: it goes on */
        enum status status =
            sessions_remove(sessions, completion_owner(completion), completion->fields.session, &ignored);
        (void)status;
    }
}

/* Whether two references are of one model, whatever version or label they name. */
static bool is_same_model(const char *a, const char *b)
{
    size_t length = strcspn(a, "@:");
    return length == strcspn(b, "@:") && memcmp(a, b, length) == 0;
}

/* Whether it continues what its session holds. */
static bool goes_on(const struct completion *completion)
{
    return completion->session_turn.session != NULL && !completion->fields.session_start;
}

enum status completion_take_session(struct completion *completion, const char **reference,
                                    char model[TEXT_STATE_MODEL_BYTES_MAX], struct error *error)
{
    const struct session_turn *turn = &completion->session_turn;
    if (!goes_on(completion)) {
        return completion_adapt_choose(completion, NULL, false, error);
    }
    if (turn->turn.is_inside && session_check_begun(turn->session, error) != STATUS_OK) {
        return completion_refuse_field(error, "session");
    }
    session_model(turn->session, model);
    if (model[0] == '\0') { /* it did not come in, and the session is only being made */
        return completion_adapt_choose(completion, NULL, false, error);
    }
    if (*reference != NULL && !is_same_model(*reference, model)) {
        error_set(error, STATUS_INVALID, "session '%s' is of %s, not of '%.100s'", completion->fields.session, model,
                  *reference);
        return completion_refuse_field(error, "model");
    }
    completion->from = text_state_ref(session_state(turn->session));
    *reference = model;
    return completion_adapt_choose(completion, session_adapted(turn->session), completion->from != NULL, error);
}

enum status completion_check_version(const struct completion *completion, enum status status, struct error *error)
{
    bool is_gone = status == STATUS_NOT_FOUND;
    if (status == STATUS_OK && goes_on(completion) && completion->from != NULL) {
        const struct text_origin *origin = snapshot_origin(completion->snapshot);
        is_gone = memcmp(origin->digest, text_state_head(completion->from)->digest, sizeof origin->digest) != 0;
    }
    if (!goes_on(completion) || !is_gone) {
        return status;
    }
    char model[TEXT_STATE_MODEL_BYTES_MAX];
    session_model(completion->session_turn.session, model);
    error_set(error, STATUS_UNPROCESSABLE, "session '%s' stays with %s, which is not there any more%s",
              completion->fields.session, model, status == STATUS_OK ? " as it was" : "");
    error_code(error, "session_version_gone");
    completion_refuse_field(error, "session");
    return STATUS_UNPROCESSABLE;
}

static void on_loaded(void *context, const struct registry_reply *reply)
{
    struct completion *completion = context;
    json_decref(reply->reply); /* how the load went, looking for the version tells */
    if (reply->status != STATUS_OK) {
        completion_stop_loading(completion, &reply->error);
        return;
    }
    completion->is_loading = false;
    uv_timer_stop(&completion->timer);
    completion_begin(completion);
}

bool completion_wait_for_load(struct completion *completion, struct error *error)
{
    char model[TEXT_STATE_MODEL_BYTES_MAX];
    const char *reference = completion->model[0] == '\0' ? completion->fields.model : completion->model;
    if (goes_on(completion)) {
        session_model(completion->session_turn.session, model);
        reference = model[0] == '\0' ? reference : model;      /* "": the session is only being made */
        completion->from = text_state_unref(completion->from); /* to be taken again */
    }
    completion->is_loading = true;
    completion_set_deadline(completion);
    if (request_is_half_closed(completion->request)) { /* perhaps while it waited for its turn */
        completion_on_gone(completion, completion->request);
    }
    bool is_waiting = registry_wait_for_loads(completion->owner->server->registry, reference, completion->deadline_ms,
                                              error, &completion->has_waited_for_load,
                                              (struct registry_callback){.done = on_loaded, .context = completion});
    if (!is_waiting) { /* else it may have ended by now */
        completion->is_loading = false;
        uv_timer_stop(&completion->timer);
    }
    return is_waiting;
}
