/* Uploads. Thread: loop; files are written by jobs of the run threads. Owns the file and the part being written. */
#include "daemon/upload.h"

#include <nettle/sha2.h>
#include <unistd.h>

#include "daemon/imports.h"
#include "engine/base/check.h"
#include "engine/base/mem.h"

struct upload {
    struct job job; /* first */
    struct server *server;
    const char *folder; /* of the settings, which do not change it */
    int file;           /* −1: not made yet */
    struct sha256_ctx sum;
    char *part; /* being written, or NULL */
    size_t part_bytes;
    bool is_released;
    void (*done)(void *context, const struct error *error);
    void *context;
    enum status status;
    struct error error;
};

bool upload_is_meant(const char *content_type, const char *bytes, size_t length)
{
    static const char *const types[] = {"tar", "zip", "x-xz", "zstd"};
    struct source_file file = {.bytes = length, .descriptor = -1, .content = (char *)(uintptr_t)bytes};
    size_t first = 0;
    while (first < length && bytes[first] != '\0' && strchr(" \t\r\n", bytes[first]) != NULL) {
        first++;
    }
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        if (content_type != NULL && strstr(content_type, types[i]) != NULL) {
            return true;
        }
    }
    return first < length && bytes[first] != '{' && import_is_foreign(&file);
}

enum status upload_create(struct server *server, struct upload **ret_upload, struct error *error)
{
    TRY(imports_enter(server->imports, error));
    struct upload *upload = mem_allocate(1, sizeof *upload);
    if (upload == NULL) {
        imports_leave(server->imports);
        return error_set(error, STATUS_NO_MEMORY, "no memory for an upload");
    }
    *upload = (struct upload){.server = server, .folder = server->settings.models, .file = -1};
    sha256_init(&upload->sum);
    *ret_upload = upload;
    return STATUS_OK;
}

/* ---- on a run thread ---- */

static enum status open_file(struct upload *upload, struct error *error)
{
    upload->file = file_open_unnamed(upload->folder);
    return upload->file >= 0
               ? STATUS_OK
               : error_set_errno(error, errno, "%.200s: no file for an upload can be made", upload->folder);
}

static enum status write_part(struct upload *upload, struct error *error)
{
    if (upload->file < 0) {
        TRY(open_file(upload, error));
    }
    for (size_t done = 0; done < upload->part_bytes;) {
        ssize_t count = write(upload->file, upload->part + done, upload->part_bytes - done);
        int reason = errno;
        if (count < 0 && reason != EINTR) {
            return error_set_errno(error, reason, "write an upload of which %zu bytes have come", upload->part_bytes);
        }
        done += count > 0 ? (size_t)count : 0;
    }
    sha256_update(&upload->sum, upload->part_bytes, (const uint8_t *)upload->part);
    return STATUS_OK;
}

static void run_write(struct job *job)
{
    struct upload *upload = (struct upload *)job;
    upload->status = write_part(upload, &upload->error);
}

/* ---- on the loop ---- */

static void free_upload(struct upload *upload)
{
    if (upload->file >= 0) {
        close(upload->file);
    }
    imports_leave(upload->server->imports);
    mem_free(upload->part);
    mem_free(upload);
}

static void on_written(struct job *job)
{
    struct upload *upload = (struct upload *)job;
    mem_free(upload->part);
    upload->part = NULL;
    if (upload->is_released) {
        free_upload(upload);
    } else {
        upload->done(upload->context, upload->status == STATUS_OK ? NULL : &upload->error);
    }
}

enum status upload_write(struct upload *upload, char *bytes, size_t length,
                         void (*done)(void *context, const struct error *error), void *context, struct error *error)
{
    CHECK(upload->part == NULL);
    upload->job = (struct job){.run = run_write, .done = on_written};
    upload->part = bytes;
    upload->part_bytes = length;
    upload->done = done;
    upload->context = context;
    enum status status = workers_submit(upload->server->run, &upload->job, error);
    if (status != STATUS_OK) {
        mem_free(bytes);
        upload->part = NULL;
    }
    return status;
}

int upload_file(const struct upload *upload)
{
    CHECK(upload->file >= 0); /* something was written */
    return upload->file;
}

void upload_sum(struct upload *upload, char sha256[SHA256_TEXT_BYTES])
{
    sha256_finish_text(&upload->sum, sha256);
}

void upload_release(struct upload *upload)
{
    if (upload != NULL && upload->part != NULL) {
        upload->is_released = true;
    } else if (upload != NULL) {
        free_upload(upload);
    }
}
