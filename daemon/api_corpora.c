/* /v1/corpora/{name}: texts kept for training, each one file. Thread: loop; files are read and written on the loader
 * thread, which is one: the sum of their sizes cannot change between counting and writing. Owns the calls. */
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "daemon/api.h"
#include "daemon/routes.h"
#include "daemon/training_run.h"
#include "engine/base/mem.h"

struct corpus_call {
    struct job job; /* first */
    struct request *request;
    const char *name;
    char directory[REGISTRY_PATH_BYTES_MAX];
    char path[REGISTRY_PATH_BYTES_MAX + 80];
    uint64_t corpus_bytes_max;
    uint64_t corpora_bytes_max;
    enum status (*work)(struct corpus_call *call, struct error *error);
    bool is_new;
    char *bytes; /* that were read */
    size_t length;
    json_t *reply;
    enum status status;
    struct error error;
};

static void run_call(struct job *job)
{
    struct corpus_call *call = (struct corpus_call *)job;
    call->status = call->work(call, &call->error);
}

static void on_done(struct job *job)
{
    struct corpus_call *call = (struct corpus_call *)job;
    if (call->status != STATUS_OK) {
        request_reply_error(call->request, &call->error);
    } else if (call->bytes != NULL) {
        request_reply(call->request, 200, "application/octet-stream", call->bytes, call->length);
    } else {
        request_reply_json(call->request, call->is_new ? 201 : 200, call->reply);
    }
    request_release(call->request);
    mem_free(call);
}

static void begin(struct server *server, struct request *request,
                  enum status (*work)(struct corpus_call *call, struct error *error))
{
    struct error error;
    const char *name = route_parameter(request, 0);
    struct corpus_call *call = mem_allocate(1, sizeof *call);
    enum status status =
        call == NULL ? error_set(&error, STATUS_NO_MEMORY, "no memory for a request") : name_check(name, &error);
    if (status == STATUS_OK) {
        call->request = request;
        call->name = name;
        call->work = work;
        call->job.run = run_call;
        call->job.done = on_done;
        call->corpus_bytes_max = server->settings.corpus_bytes_max;
        call->corpora_bytes_max = server->settings.corpora_bytes_max;
        corpora_directory(&server->settings, call->directory);
        snprintf(call->path, sizeof call->path, "%s/%s", call->directory, name);
    }
    api_submit(request, server->loader, call == NULL ? NULL : &call->job, status, &error);
}

/* ---- On the loader thread */

static enum status name_missing(const struct corpus_call *call, struct error *error)
{
    error_set(error, STATUS_NOT_FOUND, "there is no corpus '%s'", call->name);
    error_code(error, "corpus_not_found");
    return STATUS_NOT_FOUND;
}

/* The bytes of all corpora but this one; hidden files are being written. */
static uint64_t others_bytes(const struct corpus_call *call)
{
    uint64_t total = 0;
    DIR *directory = opendir(call->directory);
    const struct dirent *entry;
    struct stat info;
    while (directory != NULL && (entry = readdir(directory)) != NULL) { /* a stream of this call's own */
        bool counts = entry->d_name[0] != '.' && strcmp(entry->d_name, call->name) != 0;
        if (counts && fstatat(dirfd(directory), entry->d_name, &info, AT_SYMLINK_NOFOLLOW) == 0) {
            total += (uint64_t)info.st_size;
        }
    }
    if (directory != NULL) {
        closedir(directory);
    }
    return total;
}

static enum status put(struct corpus_call *call, struct error *error)
{
    size_t length;
    char sha256[SHA256_TEXT_BYTES];
    struct stat info;
    const char *body = request_body(call->request, &length);
    if (length == 0) {
        error_set(error, STATUS_INVALID, "corpus %s: the body is empty", call->name);
        return error_code(error, "empty_corpus");
    }
    if (mkdir(call->directory, 0777) != 0) {
        int reason = errno;
        if (reason != EEXIST) {
            return error_set_errno(error, reason, "make directory %s", call->directory);
        }
    }
    uint64_t others = others_bytes(call);
    if (length > call->corpora_bytes_max || others > call->corpora_bytes_max - length) {
        error_set(error, STATUS_TOO_LARGE, "corpus %s has %zu bytes, the others %llu; corpora_bytes_max is %llu",
                  call->name, length, (unsigned long long)others, (unsigned long long)call->corpora_bytes_max);
        return error_code(error, "corpora_full");
    }
    call->is_new = stat(call->path, &info) != 0;
    TRY(file_write_atomically(call->path, body, length, error));
    sha256_text(body, length, sha256);
    call->reply = json_pack("{s:s, s:I, s:s}", "name", call->name, "bytes", (json_int_t)length, "sha256", sha256);
    return STATUS_OK;
}

static enum status get(struct corpus_call *call, struct error *error)
{
    if (access(call->path, F_OK) != 0) {
        return name_missing(call, error);
    }
    return file_read(call->path, call->corpus_bytes_max, &call->bytes, &call->length, error);
}

static enum status delete_file(struct corpus_call *call, struct error *error)
{
    if (access(call->path, F_OK) != 0) {
        return name_missing(call, error);
    }
    TRY(directory_remove(call->path, error));
    call->reply = json_pack("{s:s, s:b}", "name", call->name, "deleted", true);
    return STATUS_OK;
}

void api_corpora_put(struct server *server, struct request *request)
{
    begin(server, request, put);
}

void api_corpora_get(struct server *server, struct request *request)
{
    begin(server, request, get);
}

void api_corpora_delete(struct server *server, struct request *request)
{
    begin(server, request, delete_file);
}
