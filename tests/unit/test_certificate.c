/* A certificate and its key: what is read of PEM files, which are refused and why, and what is said of their time. The
 * certificates are made here, with times of our own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include <gnutls/x509.h>
#include <cmocka.h>

#include "daemon/certificate.h"
#include "engine/base/mem.h"
#include "tests/unit/text_file_rig.h"

enum { PEM_BYTES_MAX = 8192, STARTS_AT = 1700000000, DAY = 86400, EXPIRES_AT = STARTS_AT + 90 * DAY };

static char key_path[64];
static gnutls_x509_privkey_t key, other_key;

static gnutls_x509_privkey_t make_key(void)
{
    gnutls_x509_privkey_t made;
    assert_int_equal(gnutls_x509_privkey_init(&made), 0);
    assert_int_equal(
        gnutls_x509_privkey_generate(made, GNUTLS_PK_ECDSA, GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), 0), 0);
    return made;
}

/* Adds a certificate of `subject` in PEM form, signed by `issuer` (itself where that is its own name). */
static void add_certificate(char *pem, const char *subject, gnutls_x509_privkey_t its_key, const char *issuer,
                            gnutls_x509_privkey_t issuer_key, time_t expires_at)
{
    gnutls_x509_crt_t made[2];
    const char *names[2] = {subject, issuer};
    gnutls_x509_privkey_t keys[2] = {its_key, issuer_key};
    for (int i = 0; i < 2; i++) {
        assert_int_equal(gnutls_x509_crt_init(&made[i]), 0);
        gnutls_x509_crt_set_version(made[i], 3);
        gnutls_x509_crt_set_serial(made[i], "\1", 1);
        gnutls_x509_crt_set_activation_time(made[i], STARTS_AT);
        gnutls_x509_crt_set_expiration_time(made[i], expires_at);
        assert_int_equal(gnutls_x509_crt_set_dn(made[i], names[i], NULL), 0);
        assert_int_equal(gnutls_x509_crt_set_key(made[i], keys[i]), 0);
    }
    assert_int_equal(gnutls_x509_crt_sign2(made[0], made[1], issuer_key, GNUTLS_DIG_SHA256, 0), 0);
    size_t used = strlen(pem), bytes = PEM_BYTES_MAX - used;
    assert_int_equal(gnutls_x509_crt_export(made[0], GNUTLS_X509_FMT_PEM, pem + used, &bytes), 0);
    gnutls_x509_crt_deinit(made[0]);
    gnutls_x509_crt_deinit(made[1]);
}

static void add_key(char *pem, gnutls_x509_privkey_t its_key, const char *password)
{
    size_t used = strlen(pem), bytes = PEM_BYTES_MAX - used;
    assert_int_equal(gnutls_x509_privkey_export_pkcs8(its_key, GNUTLS_X509_FMT_PEM, password,
                                                      password == NULL ? GNUTLS_PKCS_PLAIN : GNUTLS_PKCS_PBES2_AES_256,
                                                      pem + used, &bytes),
                     0);
}

static void write_key(const char *pem, mode_t mode)
{
    FILE *file = fopen(key_path, "w");
    assert_non_null(file);
    fputs(pem, file);
    fclose(file);
    assert_int_equal(chmod(key_path, mode), 0);
}

/* One good pair of files. */
static void write_pair(time_t expires_at)
{
    char pem[PEM_BYTES_MAX] = "", key_pem[PEM_BYTES_MAX] = "";
    add_certificate(pem, "CN=one", key, "CN=one", key, expires_at);
    write_text(pem);
    add_key(key_pem, key, NULL);
    write_key(key_pem, 0640);
}

static struct certificate *read_good(void)
{
    struct certificate *certificate = NULL;
    struct error error = {.message = ""};
    if (certificate_read(path, key_path, &certificate, &error) != STATUS_OK) {
        fail_msg("%s", error.message);
    }
    return certificate;
}

static void assert_refused(enum status status, const char *first, const char *second)
{
    struct certificate *certificate = NULL;
    struct error error;
    assert_int_equal(certificate_read(path, key_path, &certificate, &error), status);
    assert_null(certificate);
    if (strstr(error.message, first) == NULL || strstr(error.message, second) == NULL) {
        fail_msg("'%s' says nothing of '%s' and '%s'", error.message, first, second);
    }
}

static void test_a_pair(void **state)
{
    (void)state;
    write_pair(EXPIRES_AT);
    struct certificate *certificate = read_good();
    unsigned count = 0;
    assert_non_null(certificate_chain(certificate, &count));
    assert_int_equal(count, 1);
    assert_non_null(certificate_key(certificate));
    assert_int_equal(certificate_expires_at(certificate), EXPIRES_AT);
    assert_ptr_equal(certificate_ref(certificate), certificate);
    certificate_unref(certificate);
    assert_int_equal(certificate_expires_at(certificate), EXPIRES_AT);
    certificate_unref(certificate);
    certificate_unref(NULL);
}

/* Those above the first in any order, and the key in between; what ends first counts. */
static void test_a_chain(void **state)
{
    (void)state;
    char pem[PEM_BYTES_MAX] = "";
    add_certificate(pem, "CN=leaf", key, "CN=middle", other_key, EXPIRES_AT);
    add_key(pem, key, NULL);
    add_certificate(pem, "CN=root", key, "CN=root", key, EXPIRES_AT + 1);
    add_certificate(pem, "CN=middle", other_key, "CN=root", key, EXPIRES_AT - 1);
    write_text(pem);
    write_key(pem, 0600);
    struct certificate *certificate = read_good();
    unsigned count = 0;
    gnutls_pcert_st *chain = certificate_chain(certificate, &count);
    assert_int_equal(count, 3);
    static const char *const names[] = {"CN=leaf", "CN=middle", "CN=root"};
    for (unsigned i = 0; i < count; i++) {
        gnutls_x509_crt_t link;
        char name[32];
        size_t bytes = sizeof name;
        assert_int_equal(gnutls_pcert_export_x509(&chain[i], &link), 0);
        assert_int_equal(gnutls_x509_crt_get_dn(link, name, &bytes), 0);
        assert_string_equal(name, names[i]);
        gnutls_x509_crt_deinit(link);
    }
    assert_int_equal(certificate_expires_at(certificate), EXPIRES_AT - 1);
    certificate_unref(certificate);
}

static void test_refusals(void **state)
{
    (void)state;
    char pem[PEM_BYTES_MAX] = "", wrong[PEM_BYTES_MAX] = "", many[PEM_BYTES_MAX] = "";
    write_pair(EXPIRES_AT);
    add_key(wrong, other_key, NULL);
    write_key(wrong, 0600);
    assert_refused(STATUS_INVALID, key_path, "is not the key of the first certificate");
    wrong[0] = '\0';
    add_key(wrong, key, "password");
    write_key(wrong, 0600);
    assert_refused(STATUS_INVALID, key_path, "is encrypted");
    write_key("no key", 0600);
    assert_refused(STATUS_INVALID, key_path, "no private key in PEM form");
    write_key("", 0600);
    assert_refused(STATUS_INVALID, key_path, "tls_key");
    write_key("-----BEGIN PRIVATE KEY-----\nQUJD\n-----END PRIVATE KEY-----\n", 0600);
    assert_refused(STATUS_INVALID, key_path, "tls_key");
    for (int mode = 0602; mode <= 0606; mode += 2) {
        add_key(pem, key, NULL);
        write_key(pem, (mode_t)mode);
        pem[0] = '\0';
        assert_refused(STATUS_INVALID, key_path, "everybody");
    }
    unlink(key_path);
    assert_refused(STATUS_NOT_FOUND, "tls_key", key_path);
    write_text("-----BEGIN CERTIFICATE-----\nQUJD\n-----END CERTIFICATE-----\n");
    assert_refused(STATUS_INVALID, "tls_certificate", path);
    write_text("");
    assert_refused(STATUS_INVALID, path, "no certificate in PEM form");
    for (int i = 0; i <= CERTIFICATES_MAX; i++) {
        add_certificate(many, "CN=one", key, "CN=one", key, EXPIRES_AT);
    }
    write_text(many);
    assert_refused(STATUS_INVALID, path, "more than 16 certificates");
}

static void test_its_time(void **state)
{
    (void)state;
    static const struct {
        int64_t now;
        const char *said;
        bool is_bad;
    } cases[] = {
        {STARTS_AT - 1, "is not valid before 2023-11-14T22:13:20Z, in 0 days", true},
        {STARTS_AT, "expires 2024-02-12T22:13:20Z, in 90 days", false},
        {EXPIRES_AT - 14 * DAY, "expires 2024-02-12T22:13:20Z, in 14 days", false},
        {EXPIRES_AT - 14 * DAY + 1, "expires 2024-02-12T22:13:20Z, in 13 days", true},
        {EXPIRES_AT - 1, "expires 2024-02-12T22:13:20Z, in 0 days", true},
        {EXPIRES_AT, "expired 2024-02-12T22:13:20Z, 0 days ago", true},
        {EXPIRES_AT + 2 * DAY, "expired 2024-02-12T22:13:20Z, 2 days ago", true},
    };
    write_pair(EXPIRES_AT);
    struct certificate *certificate = read_good();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char said[CERTIFICATE_STATE_BYTES_MAX];
        assert_int_equal(certificate_describe(certificate, cases[i].now, said), cases[i].is_bad);
        assert_string_equal(said, cases[i].said);
    }
    certificate_unref(certificate);
}

static void test_out_of_memory(void **state)
{
    (void)state;
    write_pair(EXPIRES_AT);
    for (uint64_t count = 0;; count++) {
        struct certificate *certificate = NULL;
        struct error error;
        mem_fail_after(count);
        enum status status = certificate_read(path, key_path, &certificate, &error);
        mem_fail_after(UINT64_MAX);
        if (status == STATUS_OK) {
            assert_true(count > 1);
            certificate_unref(certificate);
            return;
        }
        assert_int_equal(status, STATUS_NO_MEMORY);
    }
}

static int set_up(void **state)
{
    key = make_key();
    other_key = make_key();
    int failed = make_file(state);
    snprintf(key_path, sizeof key_path, "%s.key", path);
    return failed;
}

static int tear_down(void **state)
{
    gnutls_x509_privkey_deinit(key);
    gnutls_x509_privkey_deinit(other_key);
    unlink(key_path);
    return remove_file(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_pair),   cmocka_unit_test(test_a_chain),       cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_its_time), cmocka_unit_test(test_out_of_memory),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
