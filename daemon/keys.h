/* The key file: who may ask, for what. It holds only hashes; `lstmd key` prints a key and its entry.
 *
 *   [key page]              the name that logs, metrics and limits know the key by
 *   sha256 = 9f86d081…      of the key; without one the entry is for `users` alone
 *   scope = generate        or admin, which is everything; left out: generate
 *   models = bard shelley   only these; left out: all
 *   requests_per_minute = 60
 *   symbols_per_second = 2000
 *   streams = 4             texts at a time; these three left out: no limit
 *   per_address = yes       the three are of each address; else of all together
 *   users = alice 1001      who needs no key on a Unix socket, by name or number
 *
 * Thread: loop; main at start. */
#ifndef DAEMON_KEYS_H
#define DAEMON_KEYS_H

#include "daemon/names.h"
#include "daemon/settings.h"

enum scope {
    SCOPE_OPEN,
    SCOPE_GENERATE,
    SCOPE_ADMIN,
};

enum { KEYS_MAX = 1024, KEY_USERS_MAX = 16, KEY_SHA256_BYTES = 32 };

/* What may be used of it (limits.h); 0: no limit. */
struct key_limits {
    double requests_per_minute;
    double symbols_per_second;
    uint64_t streams;
    bool per_address;
};

struct key {
    char name[MODEL_NAME_BYTES_MAX];
    bool has_sha256;
    uint8_t sha256[KEY_SHA256_BYTES];
    enum scope scope;
    char models[SETTING_TEXT_BYTES_MAX]; /* a list; "": all */
    struct key_limits limits;
    uint32_t users[KEY_USERS_MAX];
    size_t user_count;
};

struct keys;

/* Reads a key file. INVALID begins with file and line, or names the file that everybody may write, or the entry that
 * nobody could use or that has another's key; NOT_FOUND, IO. Owned. */
enum status keys_read(const char *path, struct keys **ret_keys, struct error *error) MUST_CHECK;

/* NULL is allowed. */
void keys_destroy(struct keys *keys);

/* How many entries there are. */
size_t keys_count(const struct keys *keys);

/* The entry of a key, or NULL. Takes as long for any text of that length, whatever is in the file. */
const struct key *keys_find(const struct keys *keys, const char *text, size_t length);

/* The first entry that lists a user, or NULL. */
const struct key *keys_find_user(const struct keys *keys, uint32_t user);

#endif
