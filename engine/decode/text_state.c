/* A text's state as one block of bytes. Thread: any. Owns the block. */
#include "engine/decode/text_state.h"

#include <nettle/sha2.h>
#include <stdatomic.h>

#include "engine/base/check.h"
#include "engine/base/mem.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "states are little-endian"
#endif

struct text_state {
    _Atomic size_t references;
    struct text_state_head head; /* the rest lies behind it */
};

static const char magic[8] = {'l', 's', 't', 'm', 'd', 't', 'x', 't'};
enum { BODY_OFFSET = sizeof(struct text_state), CHECKED_OFFSET = offsetof(struct text_state_head, format) };
static_assert(sizeof(struct text_state_head) == 112, "its fields lie without gaps, the same on every machine");
static_assert(sizeof(struct made_symbol) == 8, "a counted symbol is two words");
static_assert(BODY_OFFSET % _Alignof(uint64_t) == 0, "all that lies behind is aligned");

/* All bytes of a state with such a head; those of each count fit 64 bits. */
static uint64_t count_bytes(const struct text_state_head *head)
{
    return sizeof *head + (uint64_t)head->number_bytes +
           sizeof(uint32_t) * ((uint64_t)head->pending_count + head->recent_count) +
           sizeof(struct made_symbol) * (uint64_t)head->counted_count + head->model_bytes;
}

static uint64_t checksum(const void *bytes, size_t length)
{
    struct sha256_ctx context;
    uint64_t sum;
    sha256_init(&context);
    sha256_update(&context, length - CHECKED_OFFSET, (const uint8_t *)bytes + CHECKED_OFFSET);
    sha256_digest(&context, sizeof sum, (uint8_t *)&sum);
    return sum;
}

static enum status allocate(uint64_t bytes, struct text_state **ret_state, struct error *error)
{
    struct text_state *state = mem_allocate(1, offsetof(struct text_state, head) + (size_t)bytes);
    if (state == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for a state of %llu bytes", (unsigned long long)bytes);
    }
    atomic_init(&state->references, 1);
    *ret_state = state;
    return STATUS_OK;
}

enum status text_state_create(const struct text_state_head *head, const struct text_origin *origin,
                              struct text_state **ret_state, struct text_state_parts *ret_parts, struct error *error)
{
    struct text_state_head whole = *head;
    memcpy(whole.magic, magic, sizeof magic);
    memcpy(whole.digest, origin->digest, sizeof whole.digest);
    whole.format = TEXT_STATE_FORMAT;
    whole.checksum = 0;
    whole.model_bytes = (uint16_t)strlen(origin->model);
    uint64_t bytes = count_bytes(&whole);
    CHECK(bytes <= UINT32_MAX && whole.number_bytes % sizeof(uint32_t) == 0);
    whole.bytes = (uint32_t)bytes;
    struct text_state *state = NULL;
    TRY(allocate(bytes, &state, error));
    state->head = whole;
    ret_parts->numbers = (char *)state + BODY_OFFSET;
    ret_parts->pending = (uint32_t *)(void *)((char *)ret_parts->numbers + whole.number_bytes);
    ret_parts->recent = ret_parts->pending + whole.pending_count;
    ret_parts->counted = (struct made_symbol *)(void *)(ret_parts->recent + whole.recent_count);
    memcpy(ret_parts->counted + whole.counted_count, origin->model, whole.model_bytes);
    *ret_state = state;
    return STATUS_OK;
}

static enum status refuse(struct error *error, const char *what)
{
    error_set(error, STATUS_INVALID, "%s", what);
    return error_code(error, "state_malformed");
}

static bool is_printable(const char *text, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        if (text[i] <= ' ' || text[i] > '~') {
            return false;
        }
    }
    return true;
}

/* Whether what waits of a character is the beginning of one: no byte of it writes anything. */
static bool is_unfinished(const struct text_state_head *head)
{
    struct utf8_assembler assembler = {.pending_count = 0};
    char output[UTF8_ASSEMBLER_OUTPUT_BYTES_MAX];
    for (size_t i = 0; i < head->unfinished_count; i++) {
        if (utf8_assembler_push(&assembler, (unsigned char)head->unfinished[i], output) != 0) {
            return false;
        }
    }
    return true;
}

static enum status check(const struct text_state_head *head, size_t length, struct error *error)
{
    if (memcmp(head->magic, magic, sizeof magic) != 0) {
        return refuse(error, "these bytes are no state of a text");
    }
    if (head->format != TEXT_STATE_FORMAT) {
        error_set(error, STATUS_UNSUPPORTED, "a state of format %u, this lstmd knows %d", head->format,
                  TEXT_STATE_FORMAT);
        error_code(error, "newer_format");
        return STATUS_UNSUPPORTED;
    }
    if (head->bytes != length || count_bytes(head) != length) {
        error_set(error, STATUS_INVALID, "a state of %zu bytes, its head says %u and counts %llu", length, head->bytes,
                  (unsigned long long)count_bytes(head));
        return error_code(error, "state_malformed");
    }
    bool is_good = head->fed_count <= TEXT_STATE_SYMBOLS_MAX && head->made_count <= TEXT_STATE_SYMBOLS_MAX &&
                   head->number_bytes % sizeof(uint32_t) == 0 && head->number_bytes <= TEXT_STATE_NUMBER_BYTES_MAX &&
                   head->pending_count > 0 && head->pending_count <= TEXT_STATE_PENDING_MAX &&
                   head->recent_count <= PENALTIES_WINDOW_MAX && head->unfinished_count < UTF8_BYTES_MAX &&
                   is_unfinished(head) && head->model_bytes < TEXT_STATE_MODEL_BYTES_MAX && head->is_stepped <= 1;
    return is_good ? STATUS_OK : refuse(error, "a state whose counts are out of bounds");
}

enum status text_state_read(const void *bytes, size_t length, struct text_state **ret_state, struct error *error)
{
    struct text_state_head head;
    if (length < sizeof head) {
        error_set(error, STATUS_INVALID, "a state of %zu bytes, it has at least %zu", length, sizeof head);
        return error_code(error, "state_malformed");
    }
    memcpy(&head, bytes, sizeof head);
    TRY(check(&head, length, error));
    if (!is_printable((const char *)bytes + length - head.model_bytes, head.model_bytes)) {
        return refuse(error, "a state whose model has no printable name");
    }
    if (head.checksum != checksum(bytes, length)) {
        return refuse(error, "a state whose checksum does not match: its bytes were changed or cut");
    }
    TRY(allocate(length, ret_state, error));
    memcpy(&(*ret_state)->head, bytes, length);
    (*ret_state)->head.checksum = 0;
    return STATUS_OK;
}

struct text_state *text_state_ref(struct text_state *state)
{
    if (state != NULL) {
        size_t before = atomic_fetch_add_explicit(&state->references, 1, memory_order_relaxed);
        CHECK(before > 0 && before < SIZE_MAX / 2);
    }
    return state;
}

struct text_state *text_state_unref(struct text_state *state)
{
    if (state != NULL && atomic_fetch_sub(&state->references, 1) == 1) {
        mem_free(state);
    }
    return NULL;
}

size_t text_state_bytes(const struct text_state *state)
{
    return state->head.bytes;
}

void text_state_write(const struct text_state *state, void *bytes)
{
    memcpy(bytes, &state->head, state->head.bytes);
    uint64_t sum = checksum(bytes, state->head.bytes);
    memcpy((char *)bytes + offsetof(struct text_state_head, checksum), &sum, sizeof sum);
}

const struct text_state_head *text_state_head(const struct text_state *state)
{
    return &state->head;
}

const void *text_state_numbers(const struct text_state *state)
{
    return (const char *)state + BODY_OFFSET;
}

const uint32_t *text_state_pending(const struct text_state *state)
{
    return (const uint32_t *)text_state_numbers(state) + state->head.number_bytes / sizeof(uint32_t);
}

const uint32_t *text_state_recent(const struct text_state *state)
{
    return text_state_pending(state) + state->head.pending_count;
}

const struct made_symbol *text_state_counted(const struct text_state *state)
{
    return (const struct made_symbol *)(const void *)(text_state_recent(state) + state->head.recent_count);
}

static const char *model_of(const struct text_state *state)
{
    return (const char *)(text_state_counted(state) + state->head.counted_count);
}

void text_state_model(const struct text_state *state, char name[TEXT_STATE_MODEL_BYTES_MAX])
{
    memcpy(name, model_of(state), state->head.model_bytes);
    name[state->head.model_bytes] = '\0';
}

uint64_t text_state_symbol_count(const struct text_state *state)
{
    return state->head.fed_count + state->head.pending_count;
}
