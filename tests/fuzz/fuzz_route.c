/* Fuzz target: any bytes as a path, a Host and an Origin. A parameter that is handed out is UTF-8 without NUL. */
#include <stdint.h>

#include "daemon/routes.h"
#include "engine/base/check.h"
#include "engine/base/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    static const char *const patterns[] = {"/v1/models/{m}", "/v1/models/{m}/labels/{l}", "/v1/models/{m}/x/{n…}", "/"};
    char *text = mem_copy_bytes((const char *)bytes, length);
    struct arena arena = {0};
    struct error error;
    CHECK(text != NULL);
    for (size_t i = 0; i < sizeof patterns / sizeof *patterns; i++) {
        const char *parameters[ROUTE_PARAMETERS_MAX] = {NULL};
        if (route_match(patterns[i], text, &arena, parameters, &error) != STATUS_OK) {
            continue;
        }
        for (size_t j = 0; j < ROUTE_PARAMETERS_MAX && parameters[j] != NULL; j++) {
            json_t *string = json_string(parameters[j]);
            CHECK(string != NULL && parameters[j][0] != '\0');
            json_decref(string);
        }
    }
    bool is_bare = strpbrk(text, ":[") == NULL && length > 8;
    CHECK(!is_bare || strcmp(text + strlen(text) - (strlen(text) < 8 ? strlen(text) : 8), ".example") != 0 ||
          !is_host_local(text, ""));
    CHECK(!is_origin_allowed(text, NULL, "https://page.example") || strcmp(text, "https://page.example") == 0);
    arena_release(&arena);
    mem_free(text);
    return 0;
}
