/* Reading a certificate and its key, and checking that they belong together. Thread: loop; main at start. Owns what
 * GnuTLS made of them. */
#include "daemon/certificate.h"

#include <gnutls/x509.h>
#include <sys/stat.h>

#include "engine/base/check.h"
#include "engine/base/mem.h"
#include "engine/engine.h"

enum { KEY_ID_BYTES_MAX = 64, DAY_SECONDS = 86400 };

struct certificate {
    size_t references;
    gnutls_pcert_st chain[CERTIFICATES_MAX];
    unsigned count;
    gnutls_privkey_t key;
    int64_t starts_at, expires_at; /* of all the chain: the latest start, the earliest end */
};

/* A file with a NUL behind it, from mem_allocate. */
static enum status read_file(const char *what, const char *path, gnutls_datum_t *ret_data, struct error *error)
{
    char *bytes;
    size_t length;
    enum status status = file_read(path, CERTIFICATE_FILE_BYTES_MAX, &bytes, &length, error);
    if (status != STATUS_OK) {
        error_prefix(error, "%s", what);
        return status;
    }
    *ret_data = (gnutls_datum_t){.data = (unsigned char *)bytes, .size = (unsigned)length};
    return STATUS_OK;
}

/* What GnuTLS says of a file. */
static enum status refuse(int code, const char *what, const char *path, struct error *error)
{
    if (code == GNUTLS_E_MEMORY_ERROR) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for %s '%s'", what, path);
    }
    return error_set(error, STATUS_INVALID, "%s '%s': %s", what, path, gnutls_strerror(code));
}

/* ---- The chain */

/* Narrows the certificate's time to that of one link of its chain. */
static int add_time(struct certificate *certificate, gnutls_pcert_st *link)
{
    gnutls_x509_crt_t parsed;
    int code = gnutls_pcert_export_x509(link, &parsed);
    if (code < 0) {
        return code;
    }
    int64_t starts_at = gnutls_x509_crt_get_activation_time(parsed);
    int64_t expires_at = gnutls_x509_crt_get_expiration_time(parsed);
    certificate->starts_at = starts_at > certificate->starts_at ? starts_at : certificate->starts_at;
    certificate->expires_at = expires_at < certificate->expires_at ? expires_at : certificate->expires_at;
    gnutls_x509_crt_deinit(parsed);
    return 0;
}

static enum status read_chain(struct certificate *certificate, const char *path, struct error *error)
{
    gnutls_datum_t data;
    TRY(read_file("tls_certificate", path, &data, error));
    unsigned count = CERTIFICATES_MAX;
    int code =
        gnutls_pcert_list_import_x509_raw(certificate->chain, &count, &data, GNUTLS_X509_FMT_PEM,
                                          GNUTLS_X509_CRT_LIST_SORT | GNUTLS_X509_CRT_LIST_IMPORT_FAIL_IF_EXCEED);
    mem_free(data.data);
    if (code == GNUTLS_E_SHORT_MEMORY_BUFFER) {
        return error_set(error, STATUS_INVALID, "tls_certificate '%s': more than %d certificates", path,
                         CERTIFICATES_MAX);
    }
    if (code == GNUTLS_E_NO_CERTIFICATE_FOUND) {
        return error_set(error, STATUS_INVALID, "tls_certificate '%s': there is no certificate in PEM form in it",
                         path);
    }
    certificate->count = code < 0 ? 0 : count;
    for (unsigned i = 0; i < certificate->count && code >= 0; i++) {
        code = add_time(certificate, &certificate->chain[i]);
    }
    return code < 0 ? refuse(code, "tls_certificate", path, error) : STATUS_OK;
}

/* ---- The key */

static enum status check_permissions(const char *path, struct error *error)
{
    struct stat about;
    if (stat(path, &about) == 0 && (about.st_mode & (S_IROTH | S_IWOTH)) != 0) {
        return error_set(error, STATUS_INVALID, "tls_key '%s' may be read or written by everybody: chmod o-rw", path);
    }
    return STATUS_OK;
}

/* Whether the certificate is of another key than ours; below 0: GnuTLS' code for why that cannot be said. */
static int is_of_another_key(const struct certificate *certificate)
{
    unsigned char ours[KEY_ID_BYTES_MAX], theirs[KEY_ID_BYTES_MAX];
    size_t our_bytes = sizeof ours, their_bytes = sizeof theirs;
    gnutls_pubkey_t public;
    int code = gnutls_pubkey_init(&public);
    if (code < 0) {
        return code;
    }
    code = gnutls_pubkey_import_privkey(public, certificate->key, 0, 0);
    if (code >= 0) {
        code = gnutls_pubkey_get_key_id(public, GNUTLS_KEYID_USE_SHA256, ours, &our_bytes);
    }
    if (code >= 0) {
        code = gnutls_pubkey_get_key_id(certificate->chain[0].pubkey, GNUTLS_KEYID_USE_SHA256, theirs, &their_bytes);
    }
    gnutls_pubkey_deinit(public);
    return code < 0 ? code : our_bytes != their_bytes || memcmp(ours, theirs, our_bytes) != 0;
}

static enum status read_key(struct certificate *certificate, const char *path, struct error *error)
{
    gnutls_datum_t data;
    TRY(check_permissions(path, error));
    TRY(read_file("tls_key", path, &data, error));
    bool is_encrypted = strstr((const char *)data.data, "ENCRYPTED") != NULL; /* both forms of encrypted PEM say so */
    int code = gnutls_privkey_init(&certificate->key);
    if (code >= 0) {
        code = gnutls_privkey_import_x509_raw(certificate->key, &data, GNUTLS_X509_FMT_PEM, NULL, 0);
    }
    explicit_bzero(data.data, data.size);
    mem_free(data.data);
    if (code < 0 && is_encrypted) {
        return error_set(error, STATUS_INVALID, "tls_key '%s' is encrypted: lstmd has nobody to ask for its password",
                         path);
    }
    if (code == GNUTLS_E_BASE64_DECODING_ERROR || code == GNUTLS_E_REQUESTED_DATA_NOT_AVAILABLE) {
        return error_set(error, STATUS_INVALID, "tls_key '%s': there is no private key in PEM form in it", path);
    }
    return code < 0 ? refuse(code, "tls_key", path, error) : STATUS_OK;
}

/* ---- Both */

static enum status read_both(struct certificate *certificate, const char *certificate_path, const char *key_path,
                             struct error *error)
{
    TRY(read_chain(certificate, certificate_path, error));
    TRY(read_key(certificate, key_path, error));
    int code = is_of_another_key(certificate);
    if (code > 0) {
        return error_set(error, STATUS_INVALID, "tls_key '%s' is not the key of the first certificate of '%s'",
                         key_path, certificate_path);
    }
    return code < 0 ? refuse(code, "tls_key", key_path, error) : STATUS_OK;
}

enum status certificate_read(const char *certificate_path, const char *key_path, struct certificate **ret_certificate,
                             struct error *error)
{
    struct certificate *certificate = mem_allocate(1, sizeof *certificate);
    if (certificate == NULL) {
        return error_set(error, STATUS_NO_MEMORY, "no memory for a certificate");
    }
    certificate->references = 1;
    certificate->starts_at = INT64_MIN;
    certificate->expires_at = INT64_MAX;
    enum status status = read_both(certificate, certificate_path, key_path, error);
    if (status != STATUS_OK) {
        certificate_unref(certificate);
        return status;
    }
    *ret_certificate = certificate;
    return STATUS_OK;
}

struct certificate *certificate_ref(struct certificate *certificate)
{
    certificate->references++;
    return certificate;
}

void certificate_unref(struct certificate *certificate)
{
    if (certificate == NULL || --certificate->references > 0) {
        return;
    }
    for (unsigned i = 0; i < certificate->count; i++) {
        gnutls_pcert_deinit(&certificate->chain[i]);
    }
    if (certificate->key != NULL) {
        gnutls_privkey_deinit(certificate->key);
    }
    mem_free(certificate);
}

/* ---- Looking at it */

int64_t certificate_expires_at(const struct certificate *certificate)
{
    return certificate->expires_at;
}

bool certificate_describe(const struct certificate *certificate, int64_t now, char state[CERTIFICATE_STATE_BYTES_MAX])
{
    bool is_early = now < certificate->starts_at, is_over = now >= certificate->expires_at;
    time_t when = (time_t)(is_early ? certificate->starts_at : certificate->expires_at);
    struct tm parts;
    char date[32] = "";
    if (gmtime_r(&when, &parts) != NULL) {
        strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%SZ", &parts);
    }
    long long days = (is_over ? now - when : when - now) / DAY_SECONDS;
    snprintf(state, CERTIFICATE_STATE_BYTES_MAX,
             is_early  ? "is not valid before %s, in %lld days"
             : is_over ? "expired %s, %lld days ago"
                       : "expires %s, in %lld days",
             date, days);
    return is_early || is_over || days < CERTIFICATE_WARNING_DAYS;
}

gnutls_pcert_st *certificate_chain(struct certificate *certificate, unsigned *ret_count)
{
    *ret_count = certificate->count;
    return certificate->chain;
}

gnutls_privkey_t certificate_key(const struct certificate *certificate)
{
    return certificate->key;
}
