/* Any bytes as an infer request of the Open Inference Protocol: two bytes that say how much of it is JSON (0xffff: no
 * such header), then JSON, then binary tensors. Refused with a message, or run; the reply's lengths are then right. */
#include <stdint.h>

#include "daemon/oip_request.h"
#include "engine/base/mem.h"
#include "tests/unit/served_rig.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { ELEMENTS_MAX = 1 << 16, RUN_MS_MAX = 1000 };

static void check_reply(const struct oip_request *request, const struct prediction *prediction)
{
    struct error error;
    char *bytes = NULL;
    size_t length = 0;
    size_t json_length = 0;
    size_t binary_length = 0;
    enum status status = oip_request_reply(request, prediction, "m", 1, &bytes, &length, &json_length, &error);
    if (status != STATUS_OK) {
        CHECK(error.message[0] != '\0');
        return;
    }
    for (size_t i = 0; i < prediction->told_count; i++) {
        binary_length += request->binary_outputs[i] ? tensor_bytes(prediction_value(prediction, i)) : 0;
    }
    CHECK(length == json_length + binary_length);
    json_t *json = json_loadb(bytes, json_length, 0, NULL);
    CHECK(json_array_size(json_object_get(json, "outputs")) == prediction->told_count);
    json_decref(json);
    mem_free(bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct served_graph *graph;
    struct oip_request request = {.body = NULL};
    struct prediction prediction = {.graph = NULL};
    struct error error;
    if (size < 2 || size > 1 << 16) {
        return 0;
    }
    if (graph == NULL) {
        graph = served_rig_open();
    }
    size_t json_length = (size_t)(data[0] | data[1] << 8);
    error.message[0] = '\0';
    enum status status = oip_request_read((const char *)data + 2, size - 2,
                                          json_length == 0xffff ? SIZE_MAX : json_length, &request, &error);
    if (status == STATUS_OK) {
        status = prediction_begin(graph, request.signature, &prediction, &error);
    }
    if (status == STATUS_OK) {
        status = oip_request_feed(&request, &prediction, &error);
    }
    if (status == STATUS_OK) {
        status = prediction_run(&prediction, ELEMENTS_MAX, RUN_MS_MAX, &error);
    }
    if (status == STATUS_OK) {
        check_reply(&request, &prediction);
    } else {
        CHECK(error.message[0] != '\0');
    }
    prediction_release(&prediction);
    oip_request_release(&request);
    return 0;
}
