/* GET /: the web page, daemon/ui/page.html as it was when this was built. Thread: loop. Owns nothing. */
#include "daemon/api.h"
#include "engine/base/mem.h"

/* NOLINTNEXTLINE(hicpp-no-assembler) */
__asm__(".pushsection .rodata\n"
        "page_begin: .incbin \"daemon/ui/page.html\"\n"
        "page_end: .byte 0\n"
        ".popsection\n");
extern const char page_begin[] __attribute__((visibility("hidden")));
extern const char page_end[] __attribute__((visibility("hidden")));

/* Its script and style stand in it; it loads nothing else, and asks nobody but this daemon. */
static const char content_policy[] = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
                                     "img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
                                     "frame-ancestors 'none'";

void api_page(struct server *server, struct request *request)
{
    (void)server;
    size_t length = (size_t)((uintptr_t)page_end - (uintptr_t)page_begin);
    char *bytes = mem_copy_bytes(page_begin, length);
    if (bytes == NULL) {
        struct error error;
        error_set(&error, STATUS_NO_MEMORY, "no memory for the page");
        request_reply_error(request, &error);
        return;
    }
    request_add_header(request, "Content-Security-Policy", content_policy);
    request_add_header(request, "Referrer-Policy", "no-referrer");
    request_add_header(request, "X-Content-Type-Options", "nosniff");
    request_add_header(request, "Cache-Control", "no-cache");
    request_reply(request, 200, "text/html; charset=utf-8", bytes, length);
}
