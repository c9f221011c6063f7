/* The bytes between the process that reads a foreign model and the one that takes it over. Thread: any. */
#include "engine/base/mem.h"
#include "engine/import/import_private.h"
#include "engine/text/utf8.h"

const char import_magic[IMPORT_MAGIC_BYTES] = {'l', 's', 't', 'm', 'd', 'i', 'm', 'p'};

/* ---- writing ---- */

json_t *import_text_json(const char *text)
{
    char clean[4 * FOREIGN_NAME_BYTES_MAX];
    struct utf8_assembler assembler = {.pending_count = 0};
    size_t length = 0;
    for (size_t i = 0; text[i] != '\0' && length + UTF8_ASSEMBLER_OUTPUT_BYTES_MAX < sizeof clean; i++) {
        length += utf8_assembler_push(&assembler, (unsigned char)text[i], clean + length);
    }
    return json_stringn(clean, length);
}

static json_t *findings_json(const struct understanding *understanding)
{
    json_t *list = json_array();
    for (size_t i = 0; i < understanding->finding_count; i++) {
        const struct finding *finding = &understanding->findings[i];
        json_array_append_new(list, json_pack("{s:s, s:o, s:o}", "what", finding->what, "value",
                                              import_text_json(finding->value), "why", import_text_json(finding->why)));
    }
    return list;
}

static json_t *tensors_json(const struct foreign_model *model)
{
    json_t *list = json_array();
    for (size_t i = 0; i < model->tensor_count; i++) {
        const struct foreign_tensor *tensor = &model->tensors[i];
        json_t *shape = json_array();
        for (int d = 0; d < tensor->shape.rank; d++) {
            json_array_append_new(shape, json_integer(tensor->shape.dimensions[d]));
        }
        json_array_append_new(list, json_pack("{s:o, s:s, s:o}", "name", import_text_json(tensor->name), "dtype",
                                              dtype_name(tensor->dtype), "shape", shape));
    }
    return list;
}

static json_t *vocabularies_json(const struct foreign_model *model)
{
    json_t *list = json_array();
    for (size_t i = 0; i < model->vocabulary_count; i++) {
        const struct foreign_vocabulary *vocabulary = &model->vocabularies[i];
        json_array_append_new(list, json_pack("{s:o, s:I}", "place", import_text_json(vocabulary->place), "symbols",
                                              (json_int_t)vocabulary->count));
    }
    return list;
}

json_t *import_facts_json(const struct foreign_model *model, const struct understanding *understanding, bool looks_only,
                          const struct error *problem)
{
    json_t *facts = json_pack("{s:s, s:o, s:o, s:O*}", "format", model->format, "entry", import_text_json(model->entry),
                              "understood", findings_json(understanding), "program", understanding->program);
    if (facts != NULL && looks_only) {
        json_object_set_new(facts, "tensors", tensors_json(model));
        json_object_set_new(facts, "vocabularies", vocabularies_json(model));
        if (problem->status != STATUS_OK) {
            json_object_set_new(facts, "problem", import_text_json(problem->message));
        }
    }
    return facts;
}

json_t *import_error_json(const struct error *error)
{
    return json_pack("{s:{s:i, s:s, s:o}}", "error", "status", (int)error->status, "code", error->code, "message",
                     import_text_json(error->message));
}

/* ---- reading ---- */

enum status import_reply_length(const void *head, size_t *ret_length, struct error *error)
{
    uint64_t sizes[2];
    uint64_t weights_max = ((uint64_t)LANGUAGE_MODEL_PARAMETERS_MAX * sizeof(float)) + IMPORT_REPLY_BYTES_MAX;
    memcpy(sizes, (const char *)head + IMPORT_MAGIC_BYTES, sizeof sizes);
    if (memcmp(head, import_magic, IMPORT_MAGIC_BYTES) != 0) {
        return error_set(error, STATUS_CORRUPT, "the importing process wrote something else than a reply");
    }
    if (sizes[0] > IMPORT_REPLY_BYTES_MAX || sizes[1] > weights_max) {
        return error_set(error, STATUS_TOO_LARGE, "the importing process wants to hand over %llu and %llu bytes",
                         (unsigned long long)sizes[0], (unsigned long long)sizes[1]);
    }
    *ret_length = IMPORT_HEAD_BYTES + (size_t)sizes[0] + (size_t)sizes[1];
    return STATUS_OK;
}

/* The failure that a reply tells of. */
static enum status take_error(const json_t *json, struct error *error)
{
    json_int_t number = json_integer_value(json_object_get(json, "status"));
    const char *message = json_string_value(json_object_get(json, "message"));
    const char *code = json_string_value(json_object_get(json, "code"));
    enum status status = number > STATUS_OK && number < STATUS_COUNT ? (enum status)number : STATUS_CORRUPT;
    error_set(error, status, "%s", message == NULL ? "the importing process failed" : message);
    if (code != NULL) {
        error_code(error, code);
    }
    return status;
}

enum status import_reply_parse(const void *bytes, size_t length, struct import_reply *ret_reply, struct error *error)
{
    size_t whole = 0;
    uint64_t reply_bytes;
    if (length < IMPORT_HEAD_BYTES) {
        return error_set(error, STATUS_CORRUPT, "the importing process wrote %zu bytes only", length);
    }
    TRY(import_reply_length(bytes, &whole, error));
    memcpy(&reply_bytes, (const char *)bytes + IMPORT_MAGIC_BYTES, sizeof reply_bytes);
    if (whole != length) {
        return error_set(error, STATUS_CORRUPT, "the importing process wrote %zu of %zu bytes", length, whole);
    }
    const char *text = (const char *)bytes + IMPORT_HEAD_BYTES;
    json_error_t json_error;
    json_t *facts = json_loadb(text, (size_t)reply_bytes, JSON_ALLOW_NUL, &json_error);
    if (!json_is_object(facts)) {
        json_decref(facts);
        return error_set(error, STATUS_CORRUPT, "the importing process wrote no JSON object");
    }
    const json_t *failure = json_object_get(facts, "error");
    if (failure != NULL) {
        enum status status = take_error(failure, error);
        json_decref(facts);
        return status;
    }
    struct import_reply reply = {.facts = facts, .weights_length = length - IMPORT_HEAD_BYTES - (size_t)reply_bytes};
    if (reply.weights_length > 0) {
        reply.weights = (void *)(uintptr_t)(text + reply_bytes);
    }
    *ret_reply = reply;
    return STATUS_OK;
}

void import_reply_release(struct import_reply *reply)
{
    json_decref(reply->facts);
    *reply = (struct import_reply){.facts = NULL};
}
