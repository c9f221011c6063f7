/* What keys may use: requests a minute, symbols a second, texts at a time; of a key, or of each address that uses it.
 * Each is a bucket that fills by the clock; nothing else is kept of an address, and the longest unused goes when there
 * are LIMITS_ACCOUNTS_MAX. Thread: loop; callers say what time it is. */
#ifndef DAEMON_LIMITS_H
#define DAEMON_LIMITS_H

#include "daemon/keys.h"

enum { LIMITS_ACCOUNTS_MAX = 4096, LIMITS_ADDRESS_BYTES_MAX = 64 };

/* Who is to be limited; borrowed. */
struct limit_holder {
    const char *key;
    const char *address; /* "": the key as a whole */
    const struct key_limits *limits;
};

struct limits;
struct limit_account;

/* Owned. */
enum status limits_create(struct limits **ret_limits, struct error *error) MUST_CHECK;

/* No text may be in the making. NULL is allowed. */
void limits_destroy(struct limits *limits);

/* Takes one request from the minute's, all of which may come at once. LIMIT, code "requests_per_minute", with the time
 * to wait. */
enum status limits_take_request(struct limits *limits, const struct limit_holder *holder, uint64_t now_ms,
                                struct error *error) MUST_CHECK;

/* Takes `count` texts that read and make up to `symbols` together: as long as nothing is owed, more may be taken than
 * there is, and is owed then. LIMIT, code "symbols_per_second" or "streams"; TOO_LARGE, code "streams", for more texts
 * than there may ever be at a time. The account (NULL: nothing is limited) is to be given back with
 * limits_return_texts. */
enum status limits_take_texts(struct limits *limits, const struct limit_holder *holder, size_t count, uint64_t symbols,
                              uint64_t now_ms, struct limit_account **ret_account, struct error *error) MUST_CHECK;

/* So many texts have ended, and did not use so many of their symbols. The account may be NULL. */
void limits_return_texts(struct limit_account *account, size_t count, uint64_t unused_symbols);

#endif
