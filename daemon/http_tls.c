/* TLS connections: each keeps the certificate that was there when it came, so that a reload changes what the next ones
 * are shown and frees the old certificate with the last that has it; and their handshakes, which are counted and have
 * a time of their own, since MHD tells nothing of them. Who speaks plain HTTP is told so.
 *
 * Thread: loop. Owns what it notes of each connection. */
#include <errno.h>
#include <sys/socket.h>

#include "daemon/certificate.h"
#include "daemon/http_private.h"
#include "engine/base/mem.h"

enum { HANDSHAKE_SECONDS_MAX = 10, PLAIN_HEAD_BYTES = 4096 };

static const char PLAIN_REPLY[] =
    "HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n"
    "{\"error\":{\"message\":\"this port speaks TLS: ask it by https\",\"type\":\"invalid_request_error\","
    "\"code\":\"tls_required\",\"param\":null}}\n";

struct tls_connection {
    struct listener *listener;
    struct MHD_Connection *connection;
    struct certificate *certificate;
    bool is_shaking;
    bool is_heard; /* its first bytes were looked at */
    int descriptor;
};

/* Whether the first bytes that came are a method of HTTP rather than a handshake, whose first byte is no letter; then
 * they are taken and answered. */
static bool turn_away_plain(const struct tls_connection *tls)
{
    char head[PLAIN_HEAD_BYTES];
    ssize_t count = recv(tls->descriptor, head, 1, MSG_PEEK);
    if (count <= 0 || head[0] < 'A' || head[0] > 'Z') {
        return false;
    }
    /* what is left unread when the connection is closed would take the reply away from the client */
    count = recv(tls->descriptor, head, sizeof head, MSG_DONTWAIT);
    return count > 0 && send(tls->descriptor, PLAIN_REPLY, sizeof PLAIN_REPLY - 1, MSG_DONTWAIT | MSG_NOSIGNAL) > 0;
}

/* Where GnuTLS reads from. */
static ssize_t pull(gnutls_transport_ptr_t pointer, void *bytes, size_t length)
{
    struct tls_connection *tls = pointer;
    if (!tls->is_heard && turn_away_plain(tls)) {
        errno = ECONNRESET;
        return -1;
    }
    ssize_t count = recv(tls->descriptor, bytes, length, 0);
    tls->is_heard = tls->is_heard || count > 0;
    return count;
}

/* The client's last message came, and was what it should be. */
static int on_finished(gnutls_session_t session, unsigned type, unsigned when, unsigned is_incoming,
                       const gnutls_datum_t *message)
{
    (void)type;
    (void)when;
    (void)message;
    struct tls_connection *tls = gnutls_session_get_ptr(session);
    if (is_incoming && tls->is_shaking) {
        const struct settings *settings = tls->listener->http->settings;
        tls->is_shaking = false;
        tls->listener->handshake_count--;
        tls->listener->http->handshakes.done++;
        MHD_set_connection_option(tls->connection, MHD_CONNECTION_OPTION_TIMEOUT,
                                  (unsigned)settings->connection_timeout_seconds);
    }
    return 0;
}

static struct tls_connection *begin(struct listener *listener, struct MHD_Connection *connection)
{
    struct tls_connection *tls = mem_allocate(1, sizeof *tls);
    gnutls_session_t session = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_GNUTLS_SESSION)->tls_session;
    gnutls_session_set_ptr(session, tls); /* MHD puts its connection there, but reads it only for pre-shared keys */
    if (tls == NULL) {
        return NULL; /* nobody shows a certificate: the handshake fails */
    }
    tls->listener = listener;
    tls->connection = connection;
    tls->certificate = certificate_ref(listener->http->certificate);
    tls->is_shaking = true;
    tls->descriptor = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
    gnutls_transport_set_ptr2(session, tls, (gnutls_transport_ptr_t)(intptr_t)tls->descriptor);
    gnutls_transport_set_pull_function(session, pull);
    listener->handshake_count++;
    gnutls_handshake_set_hook_function(session, GNUTLS_HANDSHAKE_FINISHED, GNUTLS_HOOK_POST, on_finished);
    if (listener->http->settings->connection_timeout_seconds > HANDSHAKE_SECONDS_MAX) {
        MHD_set_connection_option(connection, MHD_CONNECTION_OPTION_TIMEOUT, (unsigned)HANDSHAKE_SECONDS_MAX);
    }
    return tls;
}

static void end(struct tls_connection *tls)
{
    if (tls != NULL && tls->is_shaking) {
        tls->listener->handshake_count--;
        tls->listener->http->handshakes.failed++;
    }
    if (tls != NULL) {
        certificate_unref(tls->certificate);
        mem_free(tls);
    }
}

void http_on_tls_connection(void *context, struct MHD_Connection *connection, void **state,
                            enum MHD_ConnectionNotificationCode news)
{
    if (news == MHD_CONNECTION_NOTIFY_STARTED) {
        *state = begin(context, connection);
    } else {
        end(*state);
        *state = NULL;
    }
}

int http_on_certificate_wanted(gnutls_session_t session, const struct gnutls_cert_retr_st *info,
                               gnutls_pcert_st **ret_chain, unsigned *ret_count, gnutls_ocsp_data_st **ret_ocsp,
                               unsigned *ret_ocsp_count, gnutls_privkey_t *ret_key, unsigned *ret_flags)
{
    (void)info;
    const struct tls_connection *tls = gnutls_session_get_ptr(session);
    if (tls == NULL) {
        return -1;
    }
    *ret_chain = certificate_chain(tls->certificate, ret_count);
    *ret_key = certificate_key(tls->certificate);
    *ret_ocsp = NULL;
    *ret_ocsp_count = 0;
    *ret_flags = 0; /* they stay ours */
    return 0;
}

void http_set_certificate(struct http *http, struct certificate *certificate)
{
    certificate_ref(certificate);
    certificate_unref(http->certificate);
    http->certificate = certificate;
}

struct http_handshakes http_handshakes(const struct http *http)
{
    return http->handshakes;
}
