/* Laying a template over messages. Thread: any. Owns nothing. */
#include "daemon/chat_template.h"

#include "engine/base/check.h"
#include "engine/base/mem.h"

static const char ROLE[] = "{role}", CONTENT[] = "{content}";

bool chat_template_is_good(const char *template)
{
    const char *role = strstr(template, ROLE);
    const char *content = strstr(template, CONTENT);
    return content != NULL && strstr(content + 1, CONTENT) == NULL &&
           (role == NULL || (role < content && strstr(role + 1, ROLE) == NULL));
}

const char *chat_template_stop(const char *template)
{
    const char *content = strstr(template, CONTENT);
    CHECK(content != NULL);
    return content + sizeof CONTENT - 1;
}

/* A text that grows; `has_failed` without memory. */
struct growing {
    char *bytes;
    size_t length, capacity;
    bool has_failed;
};

static void append(struct growing *text, const char *bytes, size_t length)
{
    if (length == 0) {
        return;
    }
    if (text->length + length > text->capacity) {
        size_t capacity = 2 * (text->length + length);
        char *grown = mem_reallocate(text->bytes, capacity, 1);
        if (grown == NULL) {
            text->has_failed = true;
            return;
        }
        text->bytes = grown;
        text->capacity = capacity;
    }
    memcpy(text->bytes + text->length, bytes, length);
    text->length += length;
}

/* What stands before the content. */
static void append_head(struct growing *text, const char *template, const char *role)
{
    const char *content = strstr(template, CONTENT);
    const char *place = strstr(template, ROLE);
    if (place != NULL) {
        append(text, template, (size_t)(place - template));
        append(text, role, strlen(role));
        template = place + sizeof ROLE - 1;
    }
    append(text, template, (size_t)(content - template));
}

static enum status refuse(size_t index, const char *place, const char *what, struct error *error)
{
    error_set(error, STATUS_INVALID, "messages/%zu%s %s", index, place, what);
    if (error != NULL) {
        snprintf(error->param, sizeof error->param, "messages/%zu%s", index, place);
    }
    return STATUS_INVALID;
}

/* The role as it is told to the model, or NULL. */
static const char *read_role(const json_t *message)
{
    static const struct {
        const char *name, *told;
    } roles[] = {{"system", "system"}, {"developer", "system"}, {"user", "user"}, {"assistant", "assistant"}};
    const char *name = json_string_value(json_object_get(message, "role"));
    for (size_t i = 0; name != NULL && i < sizeof roles / sizeof *roles; i++) {
        if (strcmp(roles[i].name, name) == 0) {
            return roles[i].told;
        }
    }
    return NULL;
}

/* False for a content that is neither a text nor a list of texts. */
static bool append_content(struct growing *text, const json_t *content)
{
    if (json_is_string(content)) {
        append(text, json_string_value(content), json_string_length(content));
        return true;
    }
    bool is_good = json_array_size(content) > 0;
    size_t index;
    json_t *part;
    json_array_foreach(content, index, part)
    {
        const char *type = json_string_value(json_object_get(part, "type"));
        const json_t *piece = json_object_get(part, "text");
        is_good = is_good && type != NULL && strcmp(type, "text") == 0 && json_is_string(piece);
        append(text, is_good ? json_string_value(piece) : "", is_good ? json_string_length(piece) : 0);
    }
    return is_good;
}

static enum status append_messages(struct growing *text, const char *template, const json_t *messages,
                                   struct error *error)
{
    const char *tail = chat_template_stop(template);
    size_t index;
    json_t *message;
    json_array_foreach(messages, index, message)
    {
        const char *role = read_role(message);
        if (role == NULL) {
            return refuse(index, "/role", "must be \"system\", \"developer\", \"user\" or \"assistant\"", error);
        }
        append_head(text, template, role);
        if (!append_content(text, json_object_get(message, "content"))) {
            return refuse(index, "/content", "must be a text, or a list of parts of type \"text\"", error);
        }
        append(text, tail, strlen(tail));
    }
    append_head(text, template, "assistant");
    return text->has_failed ? error_set(error, STATUS_NO_MEMORY, "no memory for a chat") : STATUS_OK;
}

enum status chat_template_apply(const char *template, const json_t *messages, char **ret_text, size_t *ret_length,
                                struct error *error)
{
    struct growing text = {.length = 0};
    if (json_array_size(messages) == 0) {
        error_set(error, STATUS_INVALID, "messages must be a list of at least one message");
        if (error != NULL) {
            snprintf(error->param, sizeof error->param, "messages");
        }
        return STATUS_INVALID;
    }
    enum status status = append_messages(&text, template, messages, error);
    if (status != STATUS_OK) {
        mem_free(text.bytes);
        return status;
    }
    *ret_text = text.bytes;
    *ret_length = text.length;
    return STATUS_OK;
}
