/* What tests of importing share: sources in memory, and a TensorFlow checkpoint among them. */
#ifndef TESTS_UNIT_IMPORT_RIG_H
#define TESTS_UNIT_IMPORT_RIG_H

#include "foreign_rig.h"

#include "engine/import/readers.h"
#include "engine/import/understanding.h"
#include "engine/store/safetensors.h"

static const char symbols[] = "[\"a\",\"b\",\"c\",\"d\",\"\\n\"]";

/* ---- a source in memory, and what comes of it ---- */

struct named_bytes {
    const char *name;
    const void *bytes;
    size_t length;
};

/* An import_sink's: appends to a buffer. */
static inline bool take(void *context, const void *bytes, size_t length)
{
    put(context, bytes, length);
    return true;
}

/* Imports `files` (up to a NULL name) into `answer`; the status that the reply holds. */
static inline enum status import_files(const struct named_bytes *files, const char *const *settings, bool looks_only,
                                       struct buffer *answer, struct import_reply *ret_reply, struct error *error)
{
    struct foreign_source source = {.label = "memory"};
    struct import_settings set = {.count = 0};
    const struct import_sink sink = {.write = take, .context = answer};
    enum status status = STATUS_OK;
    answer->length = 0;
    for (size_t i = 0; settings != NULL && settings[i] != NULL; i += 2) {
        assert_int_equal(import_settings_add(&set, settings[i], settings[i + 1], error), STATUS_OK);
    }
    for (size_t i = 0; files[i].name != NULL && status == STATUS_OK; i++) {
        status = foreign_source_add(&source, files[i].name, files[i].bytes, files[i].length, error);
    }
    if (status == STATUS_OK) {
        status = import_write(&source, &set, looks_only, &sink, error);
    }
    foreign_source_release(&source);
    return status == STATUS_OK ? import_reply_parse(answer->bytes, answer->length, ret_reply, error) : status;
}

static struct buffer answer;

/* Fails unless they are refused so, with a message that holds `message`. */
static inline void expect_refusal(const struct named_bytes *files, const char *const *settings, enum status status,
                                  const char *message)
{
    struct import_reply reply;
    struct error error = {.message = ""};
    assert_int_equal(import_files(files, settings, false, &answer, &reply, &error), status);
    if (strstr(error.message, message) == NULL) {
        fail_msg("'%s' does not hold '%s'", error.message, message);
    }
}

/* ---- TensorFlow ---- */

static struct buffer index_file;
static struct buffer shard_file;

/* The rig's model as a V2 checkpoint "m"; valid until the next call. */
static inline const struct named_bytes *bundle(void)
{
    static struct named_bytes files[4];
    index_file.length = shard_file.length = 0;
    put_bundle(&index_file, &shard_file);
    files[0] = (struct named_bytes){"m.index", index_file.bytes, index_file.length};
    files[1] = (struct named_bytes){"m.data-00000-of-00001", shard_file.bytes, shard_file.length};
    files[2] = (struct named_bytes){"symbols.json", symbols, sizeof symbols - 1};
    return files;
}

/* Fails unless they become the rig's model with that number added to the forget gates, where its own is 1. */
static inline void expect_forget_bias(const struct named_bytes *files, const char *const *settings, float forget_bias)
{
    struct import_reply reply = {.weights = NULL};
    struct safetensors weights;
    struct error error;
    float values[RIG_ELEMENTS_MAX];
    size_t count = rig_values(&rig_variables[2], values);
    assert_int_equal(import_files(files, settings, false, &answer, &reply, &error), STATUS_OK);
    assert_int_equal(safetensors_parse(reply.weights, reply.weights_length, &weights, &error), STATUS_OK);
    const float *bias = safetensors_find(&weights, "rnn/multi_rnn_cell/cell_0/basic_lstm_cell/bias")->data;
    for (size_t i = 0; i < count; i++) {
        bool is_forget_gate = i / RIG_UNITS == 2;
        assert_float_equal(bias[i], values[i] + (is_forget_gate ? forget_bias - 1 : 0), 1e-7);
    }
    safetensors_release(&weights);
    import_reply_release(&reply);
}

#endif
