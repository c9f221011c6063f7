/* HDF5 files in memory, read by libhdf5: tensors and texts, as far as Keras uses it. Nothing else is opened: links to
 * other files are left out, datasets that lie in other files are refused, no filter is loaded. Thread: the one that
 * imports; libhdf5 serves one thread at a time. */
#ifndef ENGINE_IMPORT_HDF5_FILE_H
#define ENGINE_IMPORT_HDF5_FILE_H

#include "engine/import/foreign.h"

struct hdf5_file {
    int64_t id;                 /* libhdf5's, of the open file */
    struct hdf5_memory *memory; /* owned */
    const unsigned char *bytes; /* borrowed */
    bool is_borrowed;           /* tensors lie in them */
    size_t length;
    const char *name;
    struct foreign_model *model;
};

/* Whether a file begins as HDF5 does. */
bool hdf5_is_file(const unsigned char *head, size_t length);

/* Opens what is in memory; bytes and `name`, which errors begin with, are borrowed until it is closed. CORRUPT. */
enum status hdf5_open(const void *bytes, size_t length, const char *name, struct foreign_model *model,
                      struct hdf5_file *ret_file, struct error *error) MUST_CHECK;
void hdf5_close(struct hdf5_file *file);

/* Whether there is a group of that path. */
bool hdf5_has_group(const struct hdf5_file *file, const char *path);

/* Appends the names of a group's groups to a plain list. CORRUPT, LIMIT. */
enum status hdf5_list_groups(const struct hdf5_file *file, const char *path, struct plain *list,
                             struct error *error) MUST_CHECK;

/* Adds all numbers below a group to the model, by their paths below it. What is large and lies in the file as it is is
 * borrowed from there, everything else (float16, big-endian, compressed numbers) becomes the model's own. Groups nest
 * at most HDF5_DEPTH_MAX deep. CORRUPT, UNSUPPORTED, LIMIT. */
enum { HDF5_DEPTH_MAX = 16 };
enum status hdf5_add_tensors(struct hdf5_file *file, const char *path, struct error *error) MUST_CHECK;

/* An attribute of an object that is one text, in the model's arena; `*ret_text` NULL where there is none. CORRUPT. */
enum status hdf5_read_text(const struct hdf5_file *file, const char *path, const char *attribute, const char **ret_text,
                           struct error *error) MUST_CHECK;

/* An attribute that is a list of texts, appended to a plain list: in one piece, or cut up as Keras does where it is
 * long (NAME0, NAME1, …). Nothing is appended where there is none. CORRUPT. */
enum status hdf5_read_texts(const struct hdf5_file *file, const char *path, const char *attribute, struct plain *list,
                            struct error *error) MUST_CHECK;

#endif
