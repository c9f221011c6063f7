/* A model version on disk: a directory of files under a manifest of sizes and SHA-256. Written beside, fsynced, renamed
 * into place; read (never mapped) and verified whole. Thread: loader, run, trainer threads; never the loop.
 *
 * manifest.json: {"format":1,"files":{"weights.safetensors":{"bytes":…,"sha256":"…"},…},"architecture":{…},
 * "origin":{…},"evaluation":{…}}. A version is visible once manifest.json is there and every file matches it.
 *
 * What is being written or removed has a name that begins with ".lstmd-"; a later write beside it clears away what a
 * crash left behind. One that is being replaced may be called ".before-NAME" for a moment. Symbolic links inside a
 * version are refused, never followed. */
#ifndef ENGINE_STORE_VERSION_DIRECTORY_H
#define ENGINE_STORE_VERSION_DIRECTORY_H

#include <jansson.h>
#include <stdint.h>

#include "engine/base/arena.h"

enum {
    VERSION_FORMAT = 1,
    VERSION_FILES_MAX = 64,
    VERSION_FILE_NAME_BYTES_MAX = 128,
    VERSION_FILE_BYTES_MAX_MIB = 16384,
    VERSION_MANIFEST_BYTES_MAX = 16 << 20,
    VERSION_NUMBER_MAX = 999999999,
    VERSION_LIST_MAX = 100000, /* versions of one model */
    SHA256_TEXT_BYTES = 65,
    MODEL_DIRECTORY_PATH_BYTES = 4096,
};

extern const char version_manifest_name[]; /* "manifest.json" */

/* One file's name and content, in memory. The name has at most VERSION_FILE_NAME_BYTES_MAX, no slash, control character
 * or leading dot, and is not manifest.json. */
struct version_file {
    const char *name;
    const void *bytes;
    size_t length;
};

struct version_files {
    json_t *manifest;           /* the parsed manifest */
    struct version_file text;   /* and manifest.json itself */
    struct version_file *files; /* every file it lists, whole, verified */
    size_t count;
    struct arena arena; /* the files' list and content, the manifest's text */
};

/* Writes bytes as lower-case hex: [2 × length + 1] characters. */
void hex_text(const uint8_t *bytes, size_t length, char *text);
/* Writes lower-case hex SHA-256 of bytes. */
void sha256_text(const void *bytes, size_t length, char text[SHA256_TEXT_BYTES]);
/* The same of all that `context` (nettle's) was given; it begins anew. */
struct sha256_ctx;
void sha256_finish_text(struct sha256_ctx *context, char text[SHA256_TEXT_BYTES]);

/* Where the directory of that path lies: there, or, while version_replace puts another one in its place or was killed
 * at that, beside it. False: there is none. */
bool version_find(const char *path, char found[MODEL_DIRECTORY_PATH_BYTES]);

/* Reads and verifies every file of the version in directory `path`, or where version_find finds it. NOT_FOUND without
 * the directory. Errors, each naming the file and the numbers: code "incomplete" (UNPROCESSABLE): manifest missing or
 * cut off, a listed file missing, shorter or longer than listed, or of another checksum: a copy may still be running;
 * code "corrupt" (CORRUPT): the manifest is not JSON of this form, or something listed is not a regular file; code
 * "newer_format" (UNSUPPORTED): format above VERSION_FORMAT, naming both. `error->param` is the file's name. Release
 * with version_files_release. */
enum status version_read(const char *path, struct version_files *ret_files, struct error *error) MUST_CHECK;

/* The same of `count` files that are in memory, the manifest among them; those that it does not list are left out.
 * Names and bytes are borrowed until the release. Code "corrupt" (CORRUPT) also for what is missing or differs. */
enum status version_take(const struct version_file *given, size_t count, struct version_files *ret_files,
                         struct error *error) MUST_CHECK;

/* The file of that name, or NULL. It lives as long as `files`. */
const struct version_file *version_files_find(const struct version_files *files, const char *name);

/* Frees everything and empties the struct; one that is all zeroes is allowed. */
void version_files_release(struct version_files *files);

/* Writes `files` and the manifest made from them (sizes and checksums added to `manifest`, which holds the other keys
 * and may be NULL) as the next free version of model directory `model_path` (made if missing, its parents too): a
 * hidden directory beside, every file and directory fsynced, renamed without replacing; on collision the next number.
 * Returns the number. INVALID for a bad or doubled name, LIMIT above VERSION_FILES_MAX or VERSION_NUMBER_MAX, TOO_LARGE
 * for a file or manifest above its maximum. Nothing is left behind on failure but parents that were made. */
enum status version_write(const char *model_path, const struct version_file *files, size_t count,
                          const json_t *manifest, uint64_t *ret_version, struct error *error) MUST_CHECK;

/* As version_write, for a version that was read: its manifest stays as it is, to the byte. */
enum status version_write_again(const char *model_path, const struct version_files *version, uint64_t *ret_version,
                                struct error *error) MUST_CHECK;

/* As version_write, but the directory is `path` itself, replaced whole if it exists: for a job's checkpoint. The names
 * are exchanged at once (RENAME_EXCHANGE). On a file system that cannot (NFS, CIFS), the old one is moved aside before
 * the new one comes, and removed afterwards: whenever the process is killed, version_find finds a whole one, the old
 * or the new, and the next call goes on from there. One writer at a time. */
enum status version_replace(const char *path, const struct version_file *files, size_t count, const json_t *manifest,
                            struct error *error) MUST_CHECK;

/* Removes what version_replace wrote, as directory_remove does, and what it may have left aside. */
enum status version_remove(const char *path, struct error *error) MUST_CHECK;

/* A name for a model directory that is being made in `models_path`: hidden, and swept an hour later if it was left
 * behind. Write versions into it; then publish it, or directory_remove it. TOO_LARGE for a path that is too long. */
enum status model_directory_stage(const char *models_path, char path[MODEL_DIRECTORY_PATH_BYTES],
                                  struct error *error) MUST_CHECK;

/* Renames a staged directory to its place, beside it. CONFLICT, code "model_exists", when something is there. */
enum status model_directory_publish(const char *staged_path, const char *path, struct error *error) MUST_CHECK;

/* The versions of a model directory, ascending: sub-directories named by a positive integer up to VERSION_NUMBER_MAX
 * without leading zeroes, whether good or not. Free *ret_versions with mem_free. NOT_FOUND when the directory is
 * missing, LIMIT above VERSION_LIST_MAX. */
enum status version_list(const char *model_path, uint64_t **ret_versions, size_t *ret_count,
                         struct error *error) MUST_CHECK;

/* A fingerprint of the names, sizes and modification times of a version's files, to see whether it changed. 0 if
 * unreadable. */
uint64_t version_fingerprint(const char *path);

/* Removes a version or model directory (or a file) and all below it, first renaming it to a hidden name so that it
 * vanishes at once. Symbolic links are removed, not followed. NOT_FOUND when it is missing; INVALID for a path that
 * ends in "." or "..", or the root. */
enum status directory_remove(const char *path, struct error *error) MUST_CHECK;

/* Writes a small file atomically (beside, fsync, rename, fsync of the directory, which must exist): settings.json,
 * labels.json. */
enum status file_write_atomically(const char *path, const void *bytes, size_t length, struct error *error) MUST_CHECK;

/* Removes what file_write_atomically left in a directory when it was killed; what cannot be removed stays. Nobody may
 * be writing there now. */
void file_sweep(const char *directory);

/* Opens a new file without a name in a directory, to be read and written; it goes when it is closed. −1 with errno. */
int file_open_unnamed(const char *directory) MUST_CHECK;

/* Reads a whole regular file of at most `bytes_max` bytes; TOO_LARGE above, INVALID for what is no regular file. A NUL
 * stands behind the content. Free with mem_free. */
enum status file_read(const char *path, size_t bytes_max, char **ret_bytes, size_t *ret_length,
                      struct error *error) MUST_CHECK;

#endif
