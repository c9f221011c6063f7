/* What the fuzz targets of importing share: a source in memory, imported as the reading process does it. */
#ifndef TESTS_FUZZ_FOREIGN_INPUT_H
#define TESTS_FUZZ_FOREIGN_INPUT_H

#include "engine/base/check.h"
#include "engine/base/mem.h"
#include "engine/import/importer.h"

/* libhdf5 1.10 forgets memory where a file is damaged; the reading process ends after its one file. */
const char *__lsan_default_suppressions(void); /* NOLINT(bugprone-reserved-identifier): the sanitizer's name for it */
const char *__lsan_default_suppressions(void)  /* NOLINT(bugprone-reserved-identifier) */
{
    return "leak:libhdf5";
}

/* What was written, so that it can be read back. */
struct fuzz_answer {
    unsigned char *bytes;
    size_t length;
};

/* An import_sink's. */
static inline bool fuzz_take(void *context, const void *bytes, size_t length)
{
    struct fuzz_answer *answer = context;
    answer->bytes = mem_reallocate(answer->bytes, answer->length + length + 1, 1);
    CHECK(answer->bytes != NULL);
    memcpy(answer->bytes + answer->length, bytes, length);
    answer->length += length;
    return true;
}

/* Imports the source, which is released, or looks at it. What is refused says why; what is accepted can be parsed. */
static inline void fuzz_import(struct foreign_source *source, bool looks_only)
{
    struct import_settings settings = {.count = 0};
    struct fuzz_answer answer = {.length = 0};
    const struct import_sink sink = {.write = fuzz_take, .context = &answer};
    struct import_reply reply;
    struct error error = {.message = ""};
    CHECK(import_write(source, &settings, looks_only, &sink, &error) == STATUS_OK);
    if (import_reply_parse(answer.bytes, answer.length, &reply, &error) == STATUS_OK) {
        CHECK(looks_only || reply.weights_length > 0);
        import_reply_release(&reply);
    } else {
        CHECK(error.message[0] != '\0');
    }
    mem_free(answer.bytes);
    foreign_source_release(source);
}

/* Adds a file to it. */
static inline void fuzz_add(struct foreign_source *source, const char *name, const uint8_t *bytes, size_t length)
{
    struct error error;
    CHECK(foreign_source_add(source, name, bytes, length, &error) == STATUS_OK);
}

/* Imports the bytes as an uploaded archive. */
static inline void fuzz_import_archive(const uint8_t *bytes, size_t length)
{
    struct foreign_source source = {.label = "memory", .chosen = "m", .unpack_bytes_max = 1 << 20};
    fuzz_add(&source, "m", bytes, length);
    fuzz_import(&source, false);
}

#endif
