/* The certificate that lstmd shows over TLS, and its private key: PEM files, read at start and again at each reload.
 * Counted by reference, since a connection keeps the one it began with. Thread: loop; main at start. */
#ifndef DAEMON_CERTIFICATE_H
#define DAEMON_CERTIFICATE_H

#include <gnutls/abstract.h>

#include "engine/base/status.h"

enum {
    CERTIFICATES_MAX = 16, /* of one chain */
    CERTIFICATE_FILE_BYTES_MAX = 1 << 20,
    CERTIFICATE_WARNING_DAYS = 14,
    CERTIFICATE_STATE_BYTES_MAX = 160,
};

struct certificate;

/* Reads a chain, first the server's own certificate, then those up to its root, and the private key of the first; both
 * may be in one file. INVALID names the file and what is wrong with it: no PEM, a key that is encrypted, that everybody
 * may read or write, or that belongs to another certificate; NOT_FOUND, TOO_LARGE, IO. Owned: one reference. */
enum status certificate_read(const char *certificate_path, const char *key_path, struct certificate **ret_certificate,
                             struct error *error) MUST_CHECK;

/* One reference more; returns its argument. */
struct certificate *certificate_ref(struct certificate *certificate);
/* NULL is allowed. */
void certificate_unref(struct certificate *certificate);

/* When that of the chain which expires first does so, in seconds since 1970. */
int64_t certificate_expires_at(const struct certificate *certificate);

/* Writes until when it is valid, as seen from `now`, in seconds since 1970: "expires 2027-01-31T12:00:00Z, in 70 days".
 * Whether somebody should be warned: it has expired, does so within CERTIFICATE_WARNING_DAYS, or is not valid yet. */
bool certificate_describe(const struct certificate *certificate, int64_t now, char state[CERTIFICATE_STATE_BYTES_MAX]);

/* What GnuTLS asks for in a handshake; both live as long as the certificate. */
gnutls_pcert_st *certificate_chain(struct certificate *certificate, unsigned *ret_count);
gnutls_privkey_t certificate_key(const struct certificate *certificate);

#endif
