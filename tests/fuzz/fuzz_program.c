/* Any bytes as a build program and as a run's request: refused or applied, never a crash, and a refused program leaves
 * the graph as it was. */
#include <jansson.h>
#include <stdint.h>

#include "engine/base/check.h"
#include "engine/model/model.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static size_t node_count(struct model *model)
{
    json_t *reply = NULL;
    struct error error;
    CHECK(model_describe_graph(model, &reply, &error) == STATUS_OK);
    size_t count = (size_t)json_integer_value(json_object_get(reply, "node_count"));
    json_decref(reply);
    return count;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct model *model = NULL;
    struct error error;
    json_t *reply = NULL;
    json_t *request = json_loadb((const char *)data, size, JSON_DECODE_ANY, NULL);
    if (request == NULL || size > 1 << 16) {
        json_decref(request);
        return 0;
    }
    CHECK(model_create("fuzz", &model, &error) == STATUS_OK);
    if (model_build(model, request, "id", &reply, &error) != STATUS_OK) {
        CHECK(node_count(model) == 0 && error.message[0] != '\0');
    } else {
        json_decref(reply);
    }
    if (model_run(model, request, &reply, &error) == STATUS_OK) {
        json_decref(reply);
    }
    model_unref(model);
    json_decref(request);
    return 0;
}
