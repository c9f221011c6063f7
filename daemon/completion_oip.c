/* Triton's generate and generate_stream: a completion whose prompt is "text_input", told as "text_output". Thread:
 * loop; run threads for large bodies and replies. Owns nothing. */
#include "daemon/completion_private.h"

/* ---- The request */

static enum status no_memory(struct error *error)
{
    return error_set(error, STATUS_NO_MEMORY, "no memory for a text");
}

static enum status refuse(const char *param, const char *message, struct error *error)
{
    error_set(error, STATUS_INVALID, "%s %s", param, message);
    return completion_refuse_field(error, param);
}

/* Fields of the protocol's own, and what has no place here; the others are a completion's. */
static bool is_own(const char *name)
{
    static const char *const names[] = {"id",           "text_input",  "parameters",
                                        "details",      "sequence_id", "sequence_start",
                                        "sequence_end", "stream",      "prompt"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (strcmp(names[i], name) == 0) {
            return true;
        }
    }
    return false;
}

/* Both the body and its "parameters" may have a completion's fields. */
static bool take_fields(json_t *made, const json_t *object)
{
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)object, name, value)
    {
        if (!is_own(name) && json_object_set(made, name, value) != 0) {
            return false;
        }
    }
    return true;
}

/* What a field says, in "parameters" or beside them; NULL: nothing. */
static const json_t *find(const json_t *body, const char *name)
{
    const json_t *value = json_object_get(json_object_get(body, "parameters"), name);
    value = value == NULL ? json_object_get(body, name) : value;
    return json_is_null(value) ? NULL : value;
}

static enum status check_flag(const json_t *body, const char *name, struct error *error)
{
    const json_t *value = find(body, name);
    return value == NULL || json_is_boolean(value) ? STATUS_OK : refuse(name, "must be true or false", error);
}

static enum status check(const json_t *body, struct error *error)
{
    static const char *const ones[] = {"n", "best_of"};
    const json_t *parameters = json_object_get(body, "parameters");
    const json_t *id = json_object_get(body, "id");
    if (!json_is_string(json_object_get(body, "text_input"))) {
        return refuse("text_input", "must be a string", error);
    }
    if (id != NULL && !json_is_null(id) && !json_is_string(id)) {
        return refuse("id", "must be a string", error);
    }
    if (parameters != NULL && !json_is_null(parameters) && !json_is_object(parameters)) {
        return refuse("parameters", "must be an object", error);
    }
    TRY(check_flag(body, "details", error));
    TRY(check_flag(body, "sequence_start", error));
    TRY(check_flag(body, "sequence_end", error));
    for (size_t i = 0; i < sizeof ones / sizeof *ones; i++) {
        const json_t *count = find(body, ones[i]);
        if (json_is_integer(count) && json_integer_value(count) != 1) {
            return refuse(ones[i], "must be 1: generate makes one text", error);
        }
    }
    return STATUS_OK;
}

/* sequence_id 7 and "7" are the session "7"; 0 and "" are none. */
static enum status take_sequence(const json_t *body, json_t *made, struct error *error)
{
    const json_t *id = find(body, "sequence_id");
    bool is_none = id == NULL || (json_is_integer(id) && json_integer_value(id) == 0) ||
                   (json_is_string(id) && json_string_length(id) == 0);
    if (is_none) {
        return STATUS_OK;
    }
    json_t *name = json_is_integer(id) ? json_sprintf("%lld", (long long)json_integer_value(id)) : json_deep_copy(id);
    return json_object_set_new(made, "session", name) != 0 ||
                   json_object_set_new(made, "session_start",
                                       json_boolean(json_is_true(find(body, "sequence_start")))) != 0
               ? no_memory(error)
               : STATUS_OK;
}

enum status completion_oip_translate(struct completion *completion, struct error *error)
{
    json_t *body = completion->object;
    TRY(check(body, error));
    json_t *made = json_object();
    bool is_whole = made != NULL && take_fields(made, body) && take_fields(made, json_object_get(body, "parameters")) &&
                    json_object_set(made, "prompt", json_object_get(body, "text_input")) == 0;
    if (json_is_true(find(body, "details"))) {
        is_whole = is_whole && json_object_set_new(made, "logprobs", json_integer(0)) == 0;
    }
    enum status status = is_whole ? take_sequence(body, made, error) : no_memory(error);
    if (status != STATUS_OK) {
        json_decref(made);
        return status;
    }
    completion->foreign = body;
    completion->object = made;
    return STATUS_OK;
}

bool completion_oip_ends_session(const struct completion *completion)
{
    return completion->foreign != NULL && json_is_true(find(completion->foreign, "sequence_end"));
}

/* ---- The reply */

/* Triton's words for OpenAI's. */
static const char *finish_word(const char *finish)
{
    return finish != NULL && strcmp(finish, "stop") == 0 ? "stop_sequence" : finish;
}

static json_t *list_logprobs(const json_t *logprobs)
{
    json_t *list = json_array();
    size_t index;
    json_t *text;
    json_array_foreach(json_object_get(logprobs, "tokens"), index, text)
    {
        json_array_append_new(
            list, json_pack("{s:O, s:O, s:O, s:b}", "id", json_array_get(json_object_get(logprobs, "ids"), index),
                            "text", text, "logprob", json_array_get(json_object_get(logprobs, "token_logprobs"), index),
                            "special", 0));
    }
    return list;
}

json_t *completion_oip_reply(const struct completion *completion, json_t *reply)
{
    const json_t *choice = json_array_get(json_object_get(reply, "choices"), 0);
    const char *finish = json_string_value(json_object_get(choice, "finish_reason"));
    const char *at = strchr(completion->model, '@');
    if (choice == NULL || at == NULL) {
        json_decref(reply);
        return NULL;
    }
    json_t *made = json_pack("{s:s%, s:s, s:O, s:O*, s:O*, s:O*}", "model_name", completion->model,
                             (size_t)(at - completion->model), "model_version", at + 1, "text_output",
                             json_object_get(choice, "text"), "id", json_object_get(completion->foreign, "id"), "state",
                             json_object_get(choice, "state"), "warnings", json_object_get(reply, "warnings"));
    if (made != NULL && json_is_true(find(completion->foreign, "details"))) {
        json_t *details = json_pack("{s:s*, s:o}", "finish_reason", finish_word(finish), "logprobs",
                                    list_logprobs(json_object_get(choice, "logprobs")));
        json_object_set_new(made, "details", details);
    }
    json_decref(reply);
    return made;
}
