/* Any bytes as a run's request against a graph with placeholders, a variable, writes and names for results: refused
 * with a message or run, never a crash. */
#include <jansson.h>
#include <stdint.h>

#include "engine/base/check.h"
#include "engine/model/model.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char program[] =
    "{\"program\":[{\"op\":\"placeholder\",\"name\":\"x\",\"dtype\":\"float32\",\"shape\":[null,2],\"as\":\"in\"},"
    "{\"op\":\"placeholder\",\"name\":\"n\",\"dtype\":\"int32\",\"shape\":[],\"as\":\"count\"},"
    "{\"op\":\"get_variable\",\"name\":\"v\",\"shape\":[2],\"initializer\":{\"constant\":0.5},\"as\":\"weights\"},"
    "{\"op\":\"add\",\"args\":[\"in\",\"weights\"],\"name\":\"y\",\"as\":\"out\"},"
    "{\"op\":\"range\",\"args\":[\"count\"],\"name\":\"r\",\"as\":\"numbers\"},"
    "{\"op\":\"assign\",\"var\":\"weights\",\"value\":[1.0,2.0],\"as\":\"set\"},"
    "{\"op\":\"global_variables_initializer\",\"as\":\"init_op\"}]}";

static struct model *make_model(void)
{
    struct model *model = NULL;
    struct error error;
    json_t *reply = NULL;
    json_t *request = json_loads(program, 0, NULL);
    CHECK(request != NULL && model_create("fuzz", &model, &error) == STATUS_OK);
    CHECK(model_build(model, request, NULL, &reply, &error) == STATUS_OK);
    json_decref(reply);
    json_decref(request);
    return model;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct model *model; /* what earlier inputs left in it is part of the play */
    struct error error;
    json_t *reply = NULL;
    json_t *request = size > 1 << 16 ? NULL : json_loadb((const char *)data, size, JSON_DECODE_ANY, NULL);
    if (request == NULL) {
        return 0;
    }
    if (model == NULL) {
        model = make_model();
    }
    if (model_run_within(model, request, 1000, &reply, &error) == STATUS_OK) {
        json_decref(reply);
    } else {
        CHECK(error.message[0] != '\0');
    }
    json_decref(request);
    return 0;
}
