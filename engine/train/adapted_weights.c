/* Weights that were adapted, as a block of bytes: a head, then tensor by tensor what adaptation_visit shows. Thread:
 * any. Owns the block. */
#include "engine/train/adapted_weights.h"

#include <stdatomic.h>

#include "engine/base/mem.h"

enum { FORMAT = 1 };

struct head {
    uint32_t format;
    uint32_t kind; /* enum adaptation_weights */
};

struct adapted_weights {
    _Atomic size_t references;
    size_t bytes; /* of the block */
    struct head head;
    char numbers[];
};

static enum status create(size_t bytes, struct adapted_weights **ret_weights, struct error *error)
{
    struct adapted_weights *weights = mem_allocate(offsetof(struct adapted_weights, head) + bytes, 1);
    if (weights == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for %zu bytes of adapted weights", bytes);
    }
    atomic_init(&weights->references, 1);
    weights->bytes = bytes;
    *ret_weights = weights;
    return STATUS_OK;
}

/* ---- out of an adaptation, and back ---- */

static void add_bytes(void *context, struct tensor *tensor)
{
    *(size_t *)context += tensor_bytes(tensor);
}

static void take(void *context, struct tensor *tensor)
{
    char **at = context;
    memcpy(*at, tensor->data, tensor_bytes(tensor));
    *at += tensor_bytes(tensor);
}

static void give(void *context, struct tensor *tensor)
{
    const char **at = context;
    memcpy(tensor->data, *at, tensor_bytes(tensor));
    *at += tensor_bytes(tensor);
}

size_t adapted_weights_measure(const struct adaptation *adaptation)
{
    size_t bytes = sizeof(struct head);
    adaptation_visit(adaptation, add_bytes, &bytes);
    return bytes;
}

enum status adapted_weights_save(const struct adaptation *adaptation, struct adapted_weights **ret_weights,
                                 struct error *error)
{
    struct adapted_weights *weights = NULL;
    TRY(create(adapted_weights_measure(adaptation), &weights, error));
    weights->head = (struct head){.format = FORMAT, .kind = adaptation_kind(adaptation)};
    char *at = weights->numbers;
    adaptation_visit(adaptation, take, &at);
    *ret_weights = weights;
    return STATUS_OK;
}

enum status adapted_weights_load(const struct adapted_weights *weights, struct adaptation *adaptation,
                                 struct error *error)
{
    size_t bytes = adapted_weights_measure(adaptation);
    if (adapted_weights_kind(weights) != adaptation_kind(adaptation) || weights->bytes != bytes) {
        error_set(error, STATUS_UNPROCESSABLE, "adapted weights are %zu bytes of '%s', the model's %zu of '%s'",
                  weights->bytes, adaptation_weights_name(adapted_weights_kind(weights)), bytes,
                  adaptation_weights_name(adaptation_kind(adaptation)));
        error_code(error, "adapted_mismatch");
        return STATUS_UNPROCESSABLE;
    }
    const char *at = weights->numbers;
    adaptation_visit(adaptation, give, &at);
    return STATUS_OK;
}

/* ---- out of the process, and back ---- */

enum status adapted_weights_read(const void *bytes, size_t length, struct adapted_weights **ret_weights,
                                 struct error *error)
{
    struct head head;
    if (length < sizeof head) {
        error_set(error, STATUS_INVALID, "adapted weights of %zu bytes", length);
        return error_code(error, "adapted_malformed"), STATUS_INVALID;
    }
    memcpy(&head, bytes, sizeof head);
    if (head.format < FORMAT) {
        error_set(error, STATUS_INVALID, "adapted weights of format %u", head.format);
        return error_code(error, "adapted_malformed"), STATUS_INVALID;
    }
    if (head.format > FORMAT) {
        error_set(error, STATUS_UNSUPPORTED, "adapted weights of format %u, this lstmd knows %d", head.format, FORMAT);
        return error_code(error, "newer_format"), STATUS_UNSUPPORTED;
    }
    if (head.kind >= ADAPTATION_WEIGHTS_COUNT) {
        error_set(error, STATUS_INVALID, "adapted weights of kind %u", head.kind);
        return error_code(error, "adapted_malformed"), STATUS_INVALID;
    }
    struct adapted_weights *weights = NULL;
    TRY(create(length, &weights, error));
    weights->head = head;
    memcpy(weights->numbers, (const char *)bytes + sizeof head, length - sizeof head);
    *ret_weights = weights;
    return STATUS_OK;
}

size_t adapted_weights_bytes(const struct adapted_weights *weights)
{
    return weights == NULL ? 0 : weights->bytes;
}

const void *adapted_weights_content(const struct adapted_weights *weights)
{
    return &weights->head;
}

enum adaptation_weights adapted_weights_kind(const struct adapted_weights *weights)
{
    return (enum adaptation_weights)weights->head.kind;
}

struct adapted_weights *adapted_weights_ref(struct adapted_weights *weights)
{
    if (weights != NULL) {
        atomic_fetch_add(&weights->references, 1);
    }
    return weights;
}

struct adapted_weights *adapted_weights_unref(struct adapted_weights *weights)
{
    if (weights != NULL && atomic_fetch_sub(&weights->references, 1) == 1) {
        mem_free(weights);
    }
    return NULL;
}
