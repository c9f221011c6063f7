/* Reading the key file, and finding a key in it. Thread: loop; main at start. Owns the entries. */
#include "daemon/keys.h"

#include <nettle/memops.h>
#include <nettle/sha2.h>
#include <pwd.h>
#include <sys/stat.h>

#include "daemon/ini_file.h"
#include "daemon/options.h"
#include "engine/base/check.h"
#include "engine/base/mem.h"

static_assert(KEY_SHA256_BYTES == SHA256_DIGEST_SIZE, "a key's hash is a SHA-256");

#define KEY_RATE_MAX 1e12

struct keys {
    struct key *keys;
    size_t count;
};

/* ---- One field of an entry */

static enum status take_sha256(struct key *key, const char *text, struct error *error)
{
    bool is_good = strlen(text) == (size_t)2 * KEY_SHA256_BYTES && strspn(text, "0123456789abcdef") == strlen(text);
    if (!is_good || key->has_sha256) {
        return error_set(error, STATUS_INVALID,
                         is_good ? "sha256 is given twice" : "sha256 takes %d hexadecimal digits in lower case",
                         2 * KEY_SHA256_BYTES);
    }
    for (size_t i = 0; i < KEY_SHA256_BYTES; i++) {
        char digits[3] = {text[2 * i], text[2 * i + 1], '\0'};
        key->sha256[i] = (uint8_t)strtoul(digits, NULL, 16);
    }
    key->has_sha256 = true;
    return STATUS_OK;
}

static enum status take_scope(struct key *key, const char *text, struct error *error)
{
    bool is_admin = strcmp(text, "admin") == 0;
    if (!is_admin && strcmp(text, "generate") != 0) {
        return error_set(error, STATUS_INVALID, "scope is '%.64s', expected generate or admin", text);
    }
    key->scope = is_admin ? SCOPE_ADMIN : SCOPE_GENERATE;
    return STATUS_OK;
}

static enum status take_models(struct key *key, const char *text, struct error *error)
{
    char name[SETTING_TEXT_BYTES_MAX];
    size_t used = strlen(key->models);
    if (used + strlen(text) + 2 > sizeof key->models) {
        return error_set(error, STATUS_INVALID, "models has more than %zu bytes", sizeof key->models - 2);
    }
    if (!settings_list_item(text, 0, name)) {
        return error_set(error, STATUS_INVALID, "models is empty; left out it means all");
    }
    for (size_t i = 0; settings_list_item(text, i, name); i++) {
        TRY(name_check(name, error));
    }
    snprintf(key->models + used, sizeof key->models - used, "%s%s", used == 0 ? "" : " ", text);
    return STATUS_OK;
}

static enum status find_user(const char *name, uint32_t *ret_user, struct error *error)
{
    uint64_t number;
    if (options_read_count(name, &number, NULL) == STATUS_OK && number < UINT32_MAX) {
        *ret_user = (uint32_t)number;
        return STATUS_OK;
    }
    const struct passwd *known = getpwnam(name); /* NOLINT(concurrency-mt-unsafe): no other thread asks */
    if (known == NULL) {
        return error_set(error, STATUS_INVALID, "there is no user '%.64s'", name);
    }
    *ret_user = known->pw_uid;
    return STATUS_OK;
}

static enum status take_users(struct key *key, const char *text, struct error *error)
{
    char name[SETTING_TEXT_BYTES_MAX];
    for (size_t i = 0; settings_list_item(text, i, name); i++) {
        if (key->user_count == KEY_USERS_MAX) {
            return error_set(error, STATUS_INVALID, "more than %d users", KEY_USERS_MAX);
        }
        TRY(find_user(name, &key->users[key->user_count], error));
        key->user_count++;
    }
    return STATUS_OK;
}

static enum status take_rate(const char *name, const char *text, double *ret_rate, struct error *error)
{
    double rate;
    if (options_read_number(text, &rate, NULL) != STATUS_OK || rate <= 0 || rate > KEY_RATE_MAX) {
        return error_set(error, STATUS_INVALID, "%s is '%.64s', expected a number above 0", name, text);
    }
    *ret_rate = rate;
    return STATUS_OK;
}

static enum status take_requests(struct key *key, const char *text, struct error *error)
{
    return take_rate("requests_per_minute", text, &key->limits.requests_per_minute, error);
}

static enum status take_symbols(struct key *key, const char *text, struct error *error)
{
    return take_rate("symbols_per_second", text, &key->limits.symbols_per_second, error);
}

static enum status take_streams(struct key *key, const char *text, struct error *error)
{
    uint64_t count;
    if (options_read_count(text, &count, NULL) != STATUS_OK || count == 0) {
        return error_set(error, STATUS_INVALID, "streams is '%.64s', expected an integer above 0", text);
    }
    key->limits.streams = count;
    return STATUS_OK;
}

static enum status take_per_address(struct key *key, const char *text, struct error *error)
{
    key->limits.per_address = strcmp(text, "yes") == 0;
    return key->limits.per_address || strcmp(text, "no") == 0
               ? STATUS_OK
               : error_set(error, STATUS_INVALID, "per_address is '%.64s', expected yes or no", text);
}

static const struct {
    const char *name;
    enum status (*take)(struct key *key, const char *text, struct error *error);
} fields[] = {
    {"sha256", take_sha256},
    {"scope", take_scope},
    {"models", take_models},
    {"users", take_users},
    {"requests_per_minute", take_requests},
    {"symbols_per_second", take_symbols},
    {"streams", take_streams},
    {"per_address", take_per_address},
};

/* ---- The file */

/* The entry of the section "key NAME", which is the last one or a new one. */
static enum status find_entry(struct keys *keys, const char *section, struct key **ret_key, struct error *error)
{
    static const char before[] = "key ";
    if (strncmp(section, before, strlen(before)) != 0) {
        return error_set(error, STATUS_INVALID, "section [%.64s], expected [key NAME]", section);
    }
    const char *name = section + strlen(before);
    TRY(name_check(name, error));
    for (size_t i = 0; i + 1 < keys->count; i++) {
        if (strcmp(keys->keys[i].name, name) == 0) {
            return error_set(error, STATUS_INVALID, "[key %s] stands there twice", name);
        }
    }
    if (keys->count > 0 && strcmp(keys->keys[keys->count - 1].name, name) == 0) {
        *ret_key = &keys->keys[keys->count - 1];
        return STATUS_OK;
    }
    if (keys->count == KEYS_MAX) {
        return error_set(error, STATUS_INVALID, "more than %d keys", KEYS_MAX);
    }
    struct key *grown = mem_reallocate(keys->keys, keys->count + 1, sizeof *grown);
    if (grown == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for %zu keys", keys->count + 1);
    }
    keys->keys = grown;
    struct key *key = &grown[keys->count++];
    *key = (struct key){.scope = SCOPE_GENERATE};
    snprintf(key->name, sizeof key->name, "%s", name);
    *ret_key = key;
    return STATUS_OK;
}

static enum status take_line(void *context, const char *section, const char *name, const char *text,
                             struct error *error)
{
    struct key *key = NULL;
    TRY(find_entry(context, section, &key, error));
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        if (strcmp(fields[i].name, name) == 0) {
            return fields[i].take(key, text, error);
        }
    }
    return error_set(error, STATUS_INVALID, "a key has no '%.64s'", name);
}

/* What no single line shows. */
static enum status check(const struct keys *keys, const char *path, struct error *error)
{
    struct stat about;
    if (stat(path, &about) == 0 && (about.st_mode & S_IWOTH) != 0) {
        return error_set(error, STATUS_INVALID, "key file '%s' may be written by everybody: chmod o-w", path);
    }
    for (size_t i = 0; i < keys->count; i++) {
        const struct key *key = &keys->keys[i];
        if (!key->has_sha256 && key->user_count == 0) {
            return error_set(error, STATUS_INVALID, "%s: [key %s] has neither sha256 nor users", path, key->name);
        }
        for (size_t j = 0; key->has_sha256 && j < i; j++) {
            const struct key *other = &keys->keys[j];
            if (other->has_sha256 && memcmp(other->sha256, key->sha256, sizeof key->sha256) == 0) {
                return error_set(error, STATUS_INVALID, "%s: [key %s] and [key %s] are the same key", path, other->name,
                                 key->name);
            }
        }
    }
    return STATUS_OK;
}

enum status keys_read(const char *path, struct keys **ret_keys, struct error *error)
{
    struct keys *keys = mem_allocate(1, sizeof *keys);
    if (keys == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for keys");
    }
    enum status status = ini_file_read(path, "key file", take_line, keys, error);
    if (status == STATUS_OK) {
        status = check(keys, path, error);
    }
    if (status != STATUS_OK) {
        keys_destroy(keys);
        return status;
    }
    *ret_keys = keys;
    return STATUS_OK;
}

void keys_destroy(struct keys *keys)
{
    if (keys != NULL) {
        mem_free(keys->keys);
        mem_free(keys);
    }
}

size_t keys_count(const struct keys *keys)
{
    return keys->count;
}

const struct key *keys_find(const struct keys *keys, const char *text, size_t length)
{
    struct sha256_ctx context;
    uint8_t sha256[KEY_SHA256_BYTES];
    sha256_init(&context);
    sha256_update(&context, length, (const uint8_t *)text);
    sha256_digest(&context, sizeof sha256, sha256);
    const struct key *found = NULL;
    for (size_t i = 0; i < keys->count; i++) { /* all of them: when it ends tells nothing */
        const struct key *key = &keys->keys[i];
        bool is_same = memeql_sec(sha256, key->sha256, sizeof sha256) != 0;
        found = is_same && key->has_sha256 ? key : found;
    }
    return found;
}

const struct key *keys_find_user(const struct keys *keys, uint32_t user)
{
    for (size_t i = 0; i < keys->count; i++) {
        for (size_t j = 0; j < keys->keys[i].user_count; j++) {
            if (keys->keys[i].users[j] == user) {
                return &keys->keys[i];
            }
        }
    }
    return NULL;
}
