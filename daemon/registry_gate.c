/* Keeping worse versions out. Thread: see the header; gate.json is read and written on the loader thread alone. Owns
 * nothing.
 *
 *   {"text_sha256": "…", "margin_nats": 0.02, "versions": {"<digest>": {"version": 4, "refused": "why" or null}}}
 *
 * What was found with another text or margin does not count. */
#include "daemon/registry_gate.h"

#include <errno.h>
#include <unistd.h>

#include "daemon/log.h"
#include "daemon/registry_private.h"
#include "engine/base/mem.h"

enum { DIGEST_TEXT_BYTES = 2 * TEXT_STATE_DIGEST_BYTES + 1, FILE_BYTES_MAX = 1 << 20 };

static enum status no_memory(struct error *error)
{
    return error_set(error, STATUS_NO_MEMORY, "no memory to compare versions");
}

/* ---- the setting ---- */

enum status gate_check_setting(const json_t *setting, struct error *error)
{
    const json_t *text = json_object_get(setting, "text");
    const json_t *margin = json_object_get(setting, "margin_nats");
    size_t known = (size_t)(text != NULL) + (size_t)(margin != NULL);
    if (!json_is_object(setting) || json_object_size(setting) != known) {
        return error_set(error, STATUS_INVALID, "must be an object of text and margin_nats");
    }
    if (!json_is_string(text) || json_string_length(text) < 2 || json_string_length(text) > GATE_TEXT_BYTES_MAX) {
        return error_set(error, STATUS_INVALID, "its text must have 2 to %d bytes", GATE_TEXT_BYTES_MAX);
    }
    if (margin != NULL && (!json_is_number(margin) || !(json_number_value(margin) >= 0))) {
        return error_set(error, STATUS_INVALID, "its margin_nats must be a number from 0 on");
    }
    return STATUS_OK;
}

enum status gate_init(struct gate *gate, const json_t *setting, struct snapshot *serving, struct error *error)
{
    *gate = (struct gate){.margin_nats = json_number_value(json_object_get(setting, "margin_nats"))};
    const char *text = json_string_value(json_object_get(setting, "text"));
    if (text == NULL) {
        return STATUS_OK;
    }
    gate->text = mem_copy_string(text);
    if (gate->text == NULL) {
        return no_memory(error);
    }
    gate->serving = serving == NULL ? NULL : snapshot_ref(serving);
    return STATUS_OK;
}

void gate_release(struct gate *gate)
{
    gate->serving = gate->serving == NULL ? NULL : snapshot_unref(gate->serving);
    mem_free(gate->text);
    gate->text = NULL;
}

/* ---- losses ---- */

/* [strlen(text)] symbols, at least 2. Owned. */
static enum status encode(const struct snapshot *snapshot, const char *text, uint32_t **ret_symbols, size_t *ret_count,
                          struct error *error)
{
    size_t length = strlen(text);
    uint32_t *symbols = mem_allocate(length, sizeof *symbols);
    if (symbols == NULL) {
        return no_memory(error);
    }
    enum status status = vocabulary_encode(snapshot_vocabulary(snapshot), text, length, UNKNOWN_SYMBOLS_ERROR, symbols,
                                           ret_count, error);
    if (status == STATUS_OK && *ret_count < 2) {
        status = error_set(error, STATUS_INVALID, "the text is a single symbol of %s", snapshot_full_name(snapshot));
    }
    if (status != STATUS_OK) {
        mem_free(symbols);
        return status;
    }
    *ret_symbols = symbols;
    return STATUS_OK;
}

enum status gate_check_text(const json_t *setting, const struct snapshot *serving, struct error *error)
{
    uint32_t *symbols = NULL;
    size_t count = 0;
    if (serving == NULL) {
        return STATUS_OK;
    }
    TRY(encode(serving, json_string_value(json_object_get(setting, "text")), &symbols, &count, error));
    mem_free(symbols);
    return STATUS_OK;
}

/* In nats for each character, whatever the symbols are, so that versions of different vocabularies compare. */
static enum status measure(const struct snapshot *snapshot, const char *text, const _Atomic bool *is_cancelled,
                           double *ret_nats, struct error *error)
{
    uint32_t *symbols = NULL;
    size_t count = 0;
    double nats = 0;
    enum status status = encode(snapshot, text, &symbols, &count, error);
    if (status == STATUS_OK) {
        status = decode_score(snapshot_decode_plan(snapshot), snapshot_vocabulary(snapshot), symbols, 1, count,
                              is_cancelled, &nats, error);
    }
    mem_free(symbols);
    if (status != STATUS_OK && status != STATUS_CANCELLED && status != STATUS_NO_MEMORY) {
        error_prefix(error, "%s and the gate's text", snapshot_full_name(snapshot));
    }
    if (status == STATUS_OK) {
        *ret_nats = nats * (double)(count - 1) / (double)utf8_count(text, strlen(text));
    }
    return status;
}

/* ---- what was found before ---- */

static void write_digest(const struct snapshot *snapshot, char text[DIGEST_TEXT_BYTES])
{
    hex_text(snapshot_origin(snapshot)->digest, TEXT_STATE_DIGEST_BYTES, text);
}

static void file_path(const char *directory, char path[REGISTRY_PATH_BYTES_MAX])
{
    snprintf(path, REGISTRY_PATH_BYTES_MAX, "%.4000s/gate.json", directory);
}

/* The file's content as long as text and margin are those of `gate`, else an empty one. New reference; NULL without
 * memory. */
static json_t *read_verdicts(const struct gate *gate, const char *directory)
{
    char path[REGISTRY_PATH_BYTES_MAX], sha256[SHA256_TEXT_BYTES];
    char *bytes = NULL;
    size_t length = 0;
    json_t *file = NULL;
    sha256_text(gate->text, strlen(gate->text), sha256);
    file_path(directory, path);
    if (file_read(path, FILE_BYTES_MAX, &bytes, &length, NULL) == STATUS_OK) {
        file = json_loadb(bytes, length, JSON_REJECT_DUPLICATES, NULL);
        mem_free(bytes);
    }
    const char *given = json_string_value(json_object_get(file, "text_sha256"));
    const json_t *margin = json_object_get(file, "margin_nats");
    bool is_same = given != NULL && strcmp(given, sha256) == 0 && json_is_object(json_object_get(file, "versions")) &&
                   json_number_value(margin) >= gate->margin_nats && json_number_value(margin) <= gate->margin_nats;
    if (is_same) {
        return file;
    }
    json_decref(file);
    return json_pack("{s:s, s:f, s:{}}", "text_sha256", sha256, "margin_nats", gate->margin_nats, "versions");
}

/* Of a version: an object with "refused", or NULL: it was not looked at. */
static const json_t *find_verdict(const json_t *verdicts, const struct snapshot *snapshot)
{
    char digest[DIGEST_TEXT_BYTES];
    write_digest(snapshot, digest);
    const json_t *verdict = json_object_get(json_object_get(verdicts, "versions"), digest);
    return json_is_object(verdict) ? verdict : NULL;
}

/* Whether a version of that number was kept out: such ones, which are never pruned, need not be read. */
static bool was_refused(const json_t *verdicts, uint64_t number)
{
    const char *digest;
    json_t *verdict;
    json_object_foreach(json_object_get(verdicts, "versions"), digest, verdict)
    {
        if (json_integer_value(json_object_get(verdict, "version")) == (json_int_t)number &&
            json_is_string(json_object_get(verdict, "refused"))) {
            return true;
        }
    }
    return false;
}

/* Those of versions that are no longer there go. */
static void forget_removed(json_t *versions, const char *directory)
{
    const char *digest;
    json_t *verdict;
    void *next;
    json_object_foreach_safe(versions, next, digest, verdict)
    {
        char path[REGISTRY_PATH_BYTES_MAX];
        version_path_in(directory, (uint64_t)json_integer_value(json_object_get(verdict, "version")), path);
        if (access(path, F_OK) != 0 && errno == ENOENT) {
            json_object_del(versions, digest);
        }
    }
}

/* What cannot be kept is found again at the next start. */
static void keep_verdict(json_t *verdicts, const char *directory, const struct snapshot *snapshot, const char *refused)
{
    char digest[DIGEST_TEXT_BYTES], path[REGISTRY_PATH_BYTES_MAX];
    json_t *versions = json_object_get(verdicts, "versions");
    struct error error;
    write_digest(snapshot, digest);
    forget_removed(versions, directory);
    json_object_set_new(
        versions, digest,
        json_pack("{s:I, s:s?}", "version", (json_int_t)snapshot_version(snapshot), "refused", refused));
    char *text = json_dumps(verdicts, JSON_INDENT(1));
    file_path(directory, path);
    enum status status = text == NULL ? no_memory(&error) : file_write_atomically(path, text, strlen(text), &error);
    if (status != STATUS_OK) {
        log_event(LOG_LEVEL_WARNING, "gate_not_kept", error.message, "directory=%s", directory);
    }
    mem_free(text);
}

/* ---- the check ---- */

/* What a version is compared with. */
struct baseline {
    uint64_t version; /* 0: nothing came before it */
    double nats;
};

/* The loss of a version, which must not be worse than what came before it. */
static enum status judge(const struct gate *gate, const struct snapshot *snapshot, const struct baseline *before,
                         const _Atomic bool *is_cancelled, double *ret_nats, struct error *error)
{
    TRY(measure(snapshot, gate->text, is_cancelled, ret_nats, error));
    if (before->version == 0 || *ret_nats <= before->nats + gate->margin_nats) {
        return STATUS_OK;
    }
    return error_set(error, STATUS_UNPROCESSABLE,
                     "it predicts the gate's text with %.4f nats a character, version %llu with %.4f, and the margin "
                     "is %.4f",
                     *ret_nats, (unsigned long long)before->version, before->nats, gate->margin_nats);
}

/* The same, and keeps what came of it, unless that was no judgement. */
static enum status judge_and_keep(const struct gate *gate, const char *directory, const struct snapshot *snapshot,
                                  const struct baseline *before, json_t *verdicts, const _Atomic bool *is_cancelled,
                                  double *ret_nats, struct error *error)
{
    enum status status = judge(gate, snapshot, before, is_cancelled, ret_nats, error);
    if (status != STATUS_CANCELLED && status != STATUS_NO_MEMORY) {
        keep_verdict(verdicts, directory, snapshot, status == STATUS_OK ? NULL : error->message);
    }
    return status;
}

/* Nothing serves: one version after the other up to `candidate`, as if they had come so. Those that were looked at
 * before keep their verdict; those that cannot be loaded count for nothing. */
static enum status walk(const struct gate *gate, const char *directory, const struct snapshot *candidate,
                        json_t *verdicts, const _Atomic bool *is_cancelled, struct baseline *before,
                        struct error *error)
{
    uint64_t *numbers = NULL;
    size_t count = 0;
    enum status status = version_list(directory, &numbers, &count, error);
    bool must_end = status != STATUS_OK;
    for (size_t i = 0; !must_end && i < count && numbers[i] < snapshot_version(candidate); i++) {
        char path[REGISTRY_PATH_BYTES_MAX];
        struct snapshot *older = NULL;
        struct error reason;
        double nats = 0;
        version_path_in(directory, numbers[i], path);
        if (was_refused(verdicts, numbers[i]) ||
            snapshot_load(path, snapshot_model_name(candidate), numbers[i], snapshot_precision(candidate), &older,
                          &reason) != STATUS_OK) {
            continue;
        }
        status = find_verdict(verdicts, older) != NULL
                     ? measure(older, gate->text, is_cancelled, &nats, &reason)
                     : judge_and_keep(gate, directory, older, before, verdicts, is_cancelled, &nats, &reason);
        *before = status == STATUS_OK ? (struct baseline){.version = numbers[i], .nats = nats} : *before;
        must_end = status == STATUS_CANCELLED || status == STATUS_NO_MEMORY;
        *error = must_end ? reason : *error;
        snapshot_unref(older);
    }
    mem_free(numbers);
    return must_end ? status : STATUS_OK;
}

/* Whatever keeps a version out is the gate's. */
static enum status refuse(struct error *error)
{
    error_code(error, "gate");
    error->status = STATUS_UNPROCESSABLE;
    return STATUS_UNPROCESSABLE;
}

static enum status look(const struct gate *gate, const char *directory, const struct snapshot *candidate,
                        json_t *verdicts, const _Atomic bool *is_cancelled, struct error *error)
{
    struct baseline before = {.version = 0};
    double nats = 0;
    enum status status;
    if (gate->serving != NULL) {
        before.version = snapshot_version(gate->serving);
        status = measure(gate->serving, gate->text, is_cancelled, &before.nats, error);
    } else {
        status = walk(gate, directory, candidate, verdicts, is_cancelled, &before, error);
    }
    if (status == STATUS_OK) {
        status = judge_and_keep(gate, directory, candidate, &before, verdicts, is_cancelled, &nats, error);
    }
    if (status == STATUS_OK) {
        log_event(LOG_LEVEL_INFO, "gate_passed", NULL, "model=%s version=%llu nats=%.4f before=%.4f",
                  snapshot_model_name(candidate), (unsigned long long)snapshot_version(candidate), nats, before.nats);
    }
    return status == STATUS_OK || status == STATUS_CANCELLED || status == STATUS_NO_MEMORY ? status : refuse(error);
}

enum status gate_check(const struct gate *gate, const char *directory, const struct snapshot *candidate,
                       const _Atomic bool *is_cancelled, struct error *error)
{
    if (gate->text == NULL) {
        return STATUS_OK;
    }
    json_t *verdicts = read_verdicts(gate, directory);
    if (verdicts == NULL) {
        return no_memory(error);
    }
    enum status status = STATUS_OK;
    const json_t *verdict = find_verdict(verdicts, candidate);
    const json_t *refused = json_object_get(verdict, "refused");
    if (verdict == NULL) {
        status = look(gate, directory, candidate, verdicts, is_cancelled, error);
    } else if (json_is_string(refused)) {
        error_set(error, STATUS_UNPROCESSABLE, "%s", json_string_value(refused));
        status = refuse(error);
    }
    json_decref(verdicts);
    return status;
}
