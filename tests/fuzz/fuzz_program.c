/* Any bytes as a build program and as a run's request: refused or applied, never a crash, and a refused program leaves
 * the graph as it was. */
#include <jansson.h>
#include <stdint.h>

#include "engine/base/check.h"
#include "engine/math/gemm.h"
#include "engine/model/model.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char *describe(struct model *model)
{
    json_t *reply = NULL;
    struct error error;
    CHECK(model_describe_graph(model, &reply, &error) == STATUS_OK);
    char *text = json_dumps(reply, JSON_SORT_KEYS);
    json_decref(reply);
    CHECK(text != NULL);
    return text;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static bool has_started;
    struct model *model = NULL;
    struct error error;
    json_t *reply = NULL;
    json_t *request = json_loadb((const char *)data, size, JSON_DECODE_ANY, NULL);
    if (request == NULL || size > 1 << 16) {
        json_decref(request);
        return 0;
    }
    if (!has_started) { /* constants of a program are multiplied as it is built */
        CHECK(gemm_start(NULL) == STATUS_OK);
        has_started = true;
    }
    CHECK(model_create("fuzz", &model, &error) == STATUS_OK);
    char *before = describe(model);
    if (model_build(model, request, "id", &reply, &error) != STATUS_OK) {
        char *after = describe(model);
        CHECK(strcmp(before, after) == 0 && error.message[0] != '\0');
        free(after);
    } else {
        json_decref(reply);
    }
    free(before);
    if (model_run(model, request, &reply, &error) == STATUS_OK) {
        json_decref(reply);
    }
    model_unref(model);
    json_decref(request);
    return 0;
}
