/* Chats: a completion whose prompt is the model's template laid over messages, told in the shapes of OpenAI's
 * /v1/chat/completions. Thread: loop; run threads for large bodies and replies. Owns nothing. */
#include "daemon/completion_private.h"

#include "daemon/chat_template.h"
#include "daemon/registry.h"
#include "engine/base/mem.h"

/* ---- The request */

static enum status refuse(const char *param, const char *message, struct error *error)
{
    error_set(error, STATUS_INVALID, "%s %s", param, message);
    snprintf(error->param, sizeof error->param, "%s", param);
    return STATUS_INVALID;
}

/* {"logprobs":true,"top_logprobs":2} is a completion's {"logprobs":2}. */
static enum status translate_logprobs(json_t *made, struct error *error)
{
    json_t *is_wanted = json_object_get(made, "logprobs"), *top = json_object_get(made, "top_logprobs");
    if (is_wanted != NULL && !json_is_boolean(is_wanted) && !json_is_null(is_wanted)) {
        return refuse("logprobs", "must be true or false", error);
    }
    if (top != NULL && !json_is_null(top) && (!json_is_integer(top) || !json_is_true(is_wanted))) {
        return refuse("top_logprobs", "must be an integer, and is only for logprobs: true", error);
    }
    json_t *count = !json_is_true(is_wanted) ? json_null() : json_is_integer(top) ? json_incref(top) : json_integer(0);
    json_object_del(made, "top_logprobs");
    return json_object_set_new(made, "logprobs", count) == 0
               ? STATUS_OK
               : error_set(error, STATUS_NO_MEMORY, "no memory for a chat");
}

enum status completion_chat_translate(struct completion *completion, struct error *error)
{
    json_t *made = json_copy(completion->object);
    json_t *longer = json_object_get(made, "max_completion_tokens");
    if (made == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for a chat");
    }
    if (longer != NULL && !json_is_null(longer)) {
        json_object_set(made, "max_tokens", longer);
    }
    json_object_del(made, "max_completion_tokens");
    json_object_del(made, "messages");
    json_object_del(made, "prompt");
    enum status status = translate_logprobs(made, error);
    if (status != STATUS_OK) {
        json_decref(made);
        return status;
    }
    completion->messages = json_incref(json_object_get(completion->object, "messages"));
    json_decref(completion->object);
    completion->object = made;
    return STATUS_OK;
}

static const char *template_of(const struct completion *completion)
{
    const char *template = json_string_value(json_object_get(completion->defaults, "chat_template"));
    return template == NULL ? CHAT_TEMPLATE_DEFAULT : template;
}

size_t completion_chat_bytes(const struct completion *completion)
{
    return json_array_size(completion->messages) * strlen(template_of(completion));
}

enum status completion_chat_lay(struct completion *completion, struct error *error)
{
    struct generate_request *fields = &completion->fields;
    const char *template = template_of(completion);
    const char *stop = chat_template_stop(template);
    char *text;
    size_t length;
    TRY(chat_template_apply(template, completion->messages, &text, &length, error));
    json_t *kept = json_stringn(text, length);
    mem_free(text);
    if (json_object_set_new(completion->defaults, "prompt", kept) != 0) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for a chat of %zu bytes", length);
    }
    fields->prompt = (struct generate_prompt){.text = json_string_value(kept), .length = length};
    fields->prompt_count = 1;
    fields->prompt_bytes = length;
    if (stop[0] != '\0' && strlen(stop) <= STOP_STRING_BYTES_MAX && fields->stop_count < STOP_STRINGS_MAX) {
        fields->stop[fields->stop_count] = stop;
        fields->stop_lengths[fields->stop_count++] = strlen(stop);
    }
    return STATUS_OK;
}

/* ---- The reply */

/* The bytes of a symbol by its name: "bytes:\xc3" is one. */
static json_t *list_bytes(const char *name)
{
    static const char single[] = "bytes:\\x";
    json_t *list = json_array();
    if (strncmp(name, single, sizeof single - 1) == 0) {
        json_array_append_new(list, json_integer((json_int_t)strtoul(name + sizeof single - 1, NULL, 16)));
        return list;
    }
    for (; *name != '\0'; name++) {
        json_array_append_new(list, json_integer((unsigned char)*name));
    }
    return list;
}

static json_t *make_token(const char *name, const json_t *logprob)
{
    return json_pack("{s:s, s:O, s:o}", "token", name, "logprob", logprob, "bytes", list_bytes(name));
}

/* The likeliest of {"e": -0.5, …}, in whose order they stand; a symbol of its own may stand behind them. */
static json_t *list_top(const json_t *top, size_t count)
{
    json_t *list = json_array();
    const char *name;
    json_t *logprob;
    json_object_foreach((json_t *)(uintptr_t)top, name, logprob)
    {
        if (json_array_size(list) < count) {
            json_array_append_new(list, make_token(name, logprob));
        }
    }
    return list;
}

/* {"content":[{"token","logprob","bytes","top_logprobs"}]} from a completion's four arrays. */
static json_t *make_logprobs(const struct completion *completion, const json_t *logprobs)
{
    json_t *list = json_array();
    size_t index;
    json_t *name;
    json_array_foreach(json_object_get(logprobs, "tokens"), index, name)
    {
        const json_t *logprob = json_array_get(json_object_get(logprobs, "token_logprobs"), index);
        const json_t *top = json_array_get(json_object_get(logprobs, "top_logprobs"), index);
        json_t *token = make_token(json_string_value(name), logprob);
        json_object_set_new(token, "top_logprobs", list_top(top, (size_t)completion->fields.logprobs));
        if (json_array_append_new(list, token) != 0) {
            json_decref(list);
            return NULL;
        }
    }
    return json_pack("{s:o}", "content", list);
}

static json_t *make_message(struct choice *choice, const char *text, size_t length)
{
    bool is_whole = choice->completion->form == FORM_JSON;
    json_t *message = json_object();
    if (!choice->is_role_told) {
        choice->is_role_told = true;
        json_object_set_new(message, "role", json_string("assistant"));
    }
    if (is_whole || length > 0) {
        json_object_set_new(message, "content", json_stringn(text, length));
    }
    if (is_whole) {
        json_object_set_new(message, "refusal", json_null());
    }
    return message;
}

json_t *completion_chat_choice(struct choice *choice, const char *text, size_t length, json_t *logprobs,
                               const char *finish)
{
    const struct completion *completion = choice->completion;
    json_t *told = json_is_null(logprobs) ? json_null() : make_logprobs(completion, logprobs);
    json_decref(logprobs);
    return json_pack("{s:i, s:o, s:o, s:s?}", "index", (int)choice->index,
                     completion->form == FORM_JSON ? "message" : "delta", make_message(choice, text, length),
                     "logprobs", told, "finish_reason", finish);
}
