/* Buckets that fill by the clock. Thread: loop. Owns the accounts. */
#include "daemon/limits.h"

#include <math.h>

#include "engine/base/check.h"
#include "engine/base/mem.h"

enum { RETRY_SECONDS_MAX = 3600 };

struct limit_account {
    char key[MODEL_NAME_BYTES_MAX];
    char address[LIMITS_ADDRESS_BYTES_MAX];
    double requests; /* that may be taken now; infinite while they are not limited */
    double symbols;  /* as requests; below 0: owed */
    uint64_t filled_ms;
    uint64_t text_count; /* in the making */
};

struct limits {
    struct limit_account *accounts[LIMITS_ACCOUNTS_MAX];
    size_t count;
};

enum status limits_create(struct limits **ret_limits, struct error *error)
{
    struct limits *limits = mem_allocate(1, sizeof *limits);
    if (limits == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for limits");
    }
    *ret_limits = limits;
    return STATUS_OK;
}

void limits_destroy(struct limits *limits)
{
    for (size_t i = 0; limits != NULL && i < limits->count; i++) {
        CHECK(limits->accounts[i]->text_count == 0);
        mem_free(limits->accounts[i]);
    }
    mem_free(limits);
}

/* The place of the account that was unused for the longest; `count` where all make texts. */
static size_t find_unused(const struct limits *limits)
{
    size_t found = limits->count;
    for (size_t i = 0; i < limits->count; i++) {
        const struct limit_account *account = limits->accounts[i];
        if (account->text_count == 0 &&
            (found == limits->count || account->filled_ms < limits->accounts[found]->filled_ms)) {
            found = i;
        }
    }
    return found;
}

/* What a bucket holds after so many seconds; what is not limited is full, whatever limit it will have. */
static double fill(double level, double seconds, double in_a_second, double most)
{
    return in_a_second > 0 ? fmin(level + seconds * in_a_second, most) : (double)INFINITY;
}

/* A limit below one a minute lets one through, too. */
static void fill_account(struct limit_account *account, const struct key_limits *allowed, uint64_t now_ms)
{
    double seconds = now_ms > account->filled_ms ? (double)(now_ms - account->filled_ms) / 1000 : 0;
    double a_minute = allowed->requests_per_minute;
    account->requests = fill(account->requests, seconds, a_minute / 60, fmax(1, a_minute));
    account->symbols = fill(account->symbols, seconds, allowed->symbols_per_second, allowed->symbols_per_second);
    account->filled_ms = now_ms;
}

static enum status make_account(struct limits *limits, const struct limit_holder *holder, uint64_t now_ms,
                                struct limit_account **ret_account, struct error *error)
{
    struct limit_account *account;
    if (limits->count == LIMITS_ACCOUNTS_MAX) {
        size_t unused = find_unused(limits);
        if (unused == limits->count) {
            return error_set(error, STATUS_LIMIT, "%zu addresses make texts at a time", limits->count);
        }
        account = limits->accounts[unused];
    } else {
        account = mem_allocate(1, sizeof *account);
        if (account == NULL) {
            return error_set(error, STATUS_NO_MEMORY, "no memory for the limits of key %s", holder->key);
        }
        limits->accounts[limits->count++] = account;
    }
    *account = (struct limit_account){.requests = (double)INFINITY, .symbols = (double)INFINITY};
    fill_account(account, holder->limits, now_ms);
    snprintf(account->key, sizeof account->key, "%s", holder->key);
    snprintf(account->address, sizeof account->address, "%s", holder->address);
    *ret_account = account;
    return STATUS_OK;
}

/* The holder's account, filled up to now. */
static enum status find_account(struct limits *limits, const struct limit_holder *holder, uint64_t now_ms,
                                struct limit_account **ret_account, struct error *error)
{
    for (size_t i = 0; i < limits->count; i++) {
        struct limit_account *account = limits->accounts[i];
        if (strcmp(account->key, holder->key) == 0 &&
            strncmp(account->address, holder->address, sizeof account->address - 1) == 0) { /* as far as it is kept */
            fill_account(account, holder->limits, now_ms);
            *ret_account = account;
            return STATUS_OK;
        }
    }
    return make_account(limits, holder, now_ms, ret_account, error);
}

/* "key page: 60 requests a minute; free in 0.8 s". */
static enum status refuse(const struct limit_holder *holder, const char *code, double limit, const char *what,
                          double seconds, struct error *error)
{
    error_set(error, STATUS_LIMIT, "key %s: %.10g %s; free in %.1f s", holder->key, limit, what,
              ceil(seconds * 10) / 10);
    error_code(error, code);
    if (error != NULL) {
        error->retry_after_seconds = (unsigned)fmin(fmax(ceil(seconds), 1), RETRY_SECONDS_MAX);
    }
    return STATUS_LIMIT;
}

enum status limits_take_request(struct limits *limits, const struct limit_holder *holder, uint64_t now_ms,
                                struct error *error)
{
    const struct key_limits *allowed = holder->limits;
    struct limit_account *account;
    if (allowed->requests_per_minute == 0) {
        return STATUS_OK;
    }
    TRY(find_account(limits, holder, now_ms, &account, error));
    if (account->requests < 1) {
        double seconds = (1 - account->requests) * 60 / allowed->requests_per_minute;
        return refuse(holder, "requests_per_minute", allowed->requests_per_minute, "requests a minute", seconds, error);
    }
    account->requests -= 1;
    return STATUS_OK;
}

/* Whether so many texts more may be made now. */
static enum status check_texts(const struct limit_account *account, const struct limit_holder *holder, size_t count,
                               struct error *error)
{
    uint64_t allowed = holder->limits->streams;
    if (allowed == 0 || (count <= allowed && account->text_count <= allowed - count)) {
        return STATUS_OK;
    }
    enum status status = error_set(error, count > allowed ? STATUS_TOO_LARGE : STATUS_LIMIT,
                                   "key %s: %llu texts at a time; %zu are being made, here are %zu", holder->key,
                                   (unsigned long long)allowed, account->text_count, count);
    error_code(error, "streams");
    return status;
}

enum status limits_take_texts(struct limits *limits, const struct limit_holder *holder, size_t count, uint64_t symbols,
                              uint64_t now_ms, struct limit_account **ret_account, struct error *error)
{
    const struct key_limits *allowed = holder->limits;
    struct limit_account *account = NULL;
    if (allowed->symbols_per_second > 0 || allowed->streams > 0) {
        TRY(find_account(limits, holder, now_ms, &account, error));
    }
    if (account != NULL) {
        TRY(check_texts(account, holder, count, error));
    }
    if (account != NULL && allowed->symbols_per_second > 0 && account->symbols <= 0) {
        double seconds = (1 - account->symbols) / allowed->symbols_per_second;
        return refuse(holder, "symbols_per_second", allowed->symbols_per_second, "symbols a second", seconds, error);
    }
    if (account != NULL) {
        account->text_count += count;
        account->symbols -= (double)symbols;
    }
    *ret_account = account;
    return STATUS_OK;
}

void limits_return_texts(struct limit_account *account, size_t count, uint64_t unused_symbols)
{
    if (account != NULL) {
        CHECK(account->text_count >= count);
        account->text_count -= count;
        account->symbols += (double)unused_symbols; /* more than there may be goes with the next filling */
    }
}
