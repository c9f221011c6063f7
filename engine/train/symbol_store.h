/* A text as numbers: appended once, then read from anywhere. Each takes one, two or four bytes, as the largest needs.
 * Short texts are kept in memory; what is longer goes into a file without a name, which ends with the process and which
 * nobody else can change. Owned by one; once sealed, read by any number of threads. */
#ifndef ENGINE_TRAIN_SYMBOL_STORE_H
#define ENGINE_TRAIN_SYMBOL_STORE_H

#include <stddef.h>
#include <stdint.h>

#include "engine/base/status.h"

struct symbol_store;

struct symbol_store_options {
    const char *directory;   /* of the file, which is made when it is first needed; NULL: all stays in memory. Borrowed
                              * until symbol_store_seal */
    size_t memory_bytes_max; /* what is kept in memory before there is a file */
};

/* NO_MEMORY. Owned. */
enum status symbol_store_create(const struct symbol_store_options *options, struct symbol_store **ret_store,
                                struct error *error) MUST_CHECK;
void symbol_store_destroy(struct symbol_store *store);

/* Appends `count` numbers. NO_MEMORY; IO naming the directory (disk full). */
enum status symbol_store_append(struct symbol_store *store, const uint32_t *numbers, size_t count,
                                struct error *error) MUST_CHECK;

/* After the last append, before the first read. Errors as symbol_store_append. */
enum status symbol_store_seal(struct symbol_store *store, struct error *error) MUST_CHECK;

/* How many there are, and copies of `count` of them from position `begin`; the range must lie inside. IO. */
uint64_t symbol_store_count(const struct symbol_store *store);
enum status symbol_store_read(const struct symbol_store *store, uint64_t begin, size_t count, uint32_t *ret_numbers,
                              struct error *error) MUST_CHECK;

#endif
