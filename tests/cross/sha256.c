/* Stands in for nettle's SHA-256 where the kernels' tests run without any library: a digest (FNV-1a, 64 bits, repeated)
 * that tells texts and states apart as they need it, and nothing more. Thread: any; no state. */
#include <nettle/sha2.h>
#include <stdint.h>
#include <string.h>

enum { DIGEST_WORDS = SHA256_DIGEST_SIZE / 8 };

void sha256_init(struct sha256_ctx *context)
{
    memset(context, 0, sizeof *context);
    context->count = 0xcbf29ce484222325u;
}

void sha256_update(struct sha256_ctx *context, size_t length, const uint8_t *data)
{
    for (size_t i = 0; i < length; i++) {
        context->count = (context->count ^ data[i]) * 0x100000001b3u;
    }
}

void sha256_digest(struct sha256_ctx *context, size_t length, uint8_t *digest)
{
    uint64_t words[DIGEST_WORDS];
    for (size_t i = 0; i < DIGEST_WORDS; i++) {
        words[i] = context->count * (2 * i + 1);
    }
    memcpy(digest, words, length);
    sha256_init(context);
}
