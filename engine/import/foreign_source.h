/* The files of a foreign model: opened before the reading process gives up its rights, read afterwards, when first
 * asked for. Thread: the one that imports. Owns descriptors and contents.
 *
 * What the user names is a file, a folder (with its folders, SOURCE_DEPTH_MAX deep) or the prefix of a TensorFlow
 * checkpoint. Of a file or prefix what lies beside it belongs to the source too, since vocabularies and shards lie
 * there: files of its name, and SOURCE_FILES_MAX / 2 small ones. Hidden files, symbolic links and whatever is no
 * regular file are left out. */
#ifndef ENGINE_IMPORT_FOREIGN_SOURCE_H
#define ENGINE_IMPORT_FOREIGN_SOURCE_H

#include "engine/base/arena.h"

enum {
    SOURCE_FILES_MAX = 512,
    SOURCE_DEPTH_MAX = 2,
    SOURCE_HEAD_BYTES = 512,
    SOURCE_VOCABULARY_BYTES_MAX = 16 << 20,
    SOURCE_MIB_MAX = 8192,        /* of all files that are read */
    SOURCE_UNPACK_MIB_MAX = 1024, /* of what an archive unpacks to, where nothing else is said */
};

struct source_file {
    const char *name; /* its path below the source's folder: "variables/variables.index" */
    uint64_t bytes;
    int descriptor; /* −1: in memory only */
    char *content;  /* NULL until it is read */
    bool is_borrowed;
};

struct foreign_source {
    const char *label;         /* as the user wrote it */
    const char *chosen;        /* the name of the file or the prefix that was named; "" for a folder */
    struct source_file *files; /* [SOURCE_FILES_MAX], sorted by name */
    size_t count;
    struct source_file *vocabulary; /* the file of --vocabulary, or NULL; not among `files` */
    uint64_t read_bytes;
    uint64_t unpack_bytes_max; /* what an archive may unpack to */
    struct arena arena;
};

/* Opens everything. `vocabulary` may be NULL. NOT_FOUND without such a file, folder or prefix, LIMIT above
 * SOURCE_FILES_MAX files in a folder. Release with foreign_source_release, on failure too. */
enum status foreign_source_open(const char *path, const char *vocabulary, struct foreign_source *source,
                                struct error *error) MUST_CHECK;

/* As foreign_source_open, for one open file, which is taken over and called `name`: an upload. INVALID for what is no
 * regular file. */
enum status foreign_source_open_upload(int descriptor, const char *name, struct foreign_source *source,
                                       struct error *error) MUST_CHECK;

/* Adds a file that is in memory, whose bytes are borrowed; the source was zeroed before. For tests. */
enum status foreign_source_add(struct foreign_source *source, const char *name, const void *bytes, size_t length,
                               struct error *error) MUST_CHECK;

/* The same for bytes from mem_allocate, which are taken over, on failure too. */
enum status foreign_source_take(struct foreign_source *source, const char *name, char *bytes, size_t length,
                                struct error *error) MUST_CHECK;

/* Closes and forgets the first `count` files; sorts what there is by name. */
void foreign_source_drop(struct foreign_source *source, size_t count);
void foreign_source_sort(struct foreign_source *source);

/* Up to `length` bytes of a file from `offset` on; returns how many there were. */
size_t foreign_source_read_at(const struct source_file *file, uint64_t offset, void *bytes, size_t length);

/* Up to SOURCE_HEAD_BYTES of a file from `offset` on; returns how many there were. */
size_t foreign_source_peek(const struct source_file *file, uint64_t offset, unsigned char bytes[SOURCE_HEAD_BYTES]);

/* The whole content; it stays as long as the source. IO, TOO_LARGE above SOURCE_MIB_MAX of all files together. */
enum status foreign_source_read(struct foreign_source *source, struct source_file *file,
                                const unsigned char **ret_bytes, size_t *ret_length, struct error *error) MUST_CHECK;

/* Gives up the memory of a content that was read and is needed no more; it can be read again. */
void foreign_source_forget(struct foreign_source *source, struct source_file *file);

/* The file of that name, or NULL; and the one of that name in the folder where `file` lies. */
struct source_file *foreign_source_find(const struct foreign_source *source, const char *name);
struct source_file *foreign_source_find_beside(const struct foreign_source *source, const struct source_file *file,
                                               const char *name);

/* Bytes of all files. */
uint64_t foreign_source_bytes(const struct foreign_source *source);

/* Closes and frees; a zeroed one is allowed. */
void foreign_source_release(struct foreign_source *source);

#endif
