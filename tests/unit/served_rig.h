/* A served graph for tests and fuzz targets: a version, made and saved in a directory that is gone afterwards, whose
 * signature "serving_default" takes a tensor of each dtype that is computed with and gives all of them back. */
#ifndef TESTS_UNIT_SERVED_RIG_H
#define TESTS_UNIT_SERVED_RIG_H

#include <stdlib.h>

#include <jansson.h>

#include "engine/base/check.h"
#include "engine/engine.h"

static const char served_rig_program[] =
    "{\"program\":["
    "{\"op\":\"placeholder\",\"dtype\":\"float32\",\"shape\":[null,2],\"name\":\"f\",\"as\":\"f\"},"
    "{\"op\":\"placeholder\",\"dtype\":\"float64\",\"shape\":null,\"name\":\"d\",\"as\":\"d\"},"
    "{\"op\":\"placeholder\",\"dtype\":\"int32\",\"shape\":null,\"name\":\"i\",\"as\":\"i\"},"
    "{\"op\":\"placeholder\",\"dtype\":\"int64\",\"shape\":null,\"name\":\"l\",\"as\":\"l\"},"
    "{\"op\":\"placeholder\",\"dtype\":\"bool\",\"shape\":null,\"name\":\"b\",\"as\":\"b\"},"
    "{\"op\":\"placeholder\",\"dtype\":\"float32\",\"shape\":[null,2],\"name\":\"s\",\"as\":\"s\"},"
    "{\"op\":\"variable\",\"initial_value\":[1.0,2.0],\"name\":\"v\",\"as\":\"v\"},"
    "{\"op\":\"add\",\"args\":[\"f\",\"v\"],\"name\":\"sum\",\"as\":\"sum\"},"
    "{\"op\":\"add\",\"args\":[\"s\",\"f\"],\"name\":\"next\",\"as\":\"next\"},"
    "{\"op\":\"signature\",\"name\":\"serving_default\","
    "\"inputs\":{\"f\":\"f\",\"d\":\"d\",\"i\":\"i\",\"l\":\"l\",\"b\":\"b\",\"v\":\"v\"},"
    "\"outputs\":{\"f\":\"f\",\"d\":\"d\",\"i\":\"i\",\"l\":\"l\",\"b\":\"b\",\"sum\":\"sum\"}},"
    "{\"op\":\"signature\",\"name\":\"count\",\"inputs\":{\"x\":\"f\",\"state\":[\"s\"]},"
    "\"outputs\":{\"y\":\"sum\",\"state\":[\"next\"]}},"
    "{\"op\":\"global_variables_initializer\",\"as\":\"init\"}]}";

/* The program's version, opened; served_graph_unref. */
static inline struct served_graph *served_rig_open(void)
{
    char directory[] = "/tmp/lstmd-test-served-XXXXXX";
    char path[64];
    struct model *model = NULL;
    struct served_graph *graph = NULL;
    struct error error;
    uint64_t version = 0;
    json_t *reply = NULL;
    json_t *program = json_loads(served_rig_program, 0, NULL);
    json_t *init = json_pack("{s:[s]}", "targets", "init");
    CHECK(mkdtemp(directory) != NULL && model_create("served", &model, &error) == STATUS_OK);
    CHECK(model_build(model, program, NULL, &reply, &error) == STATUS_OK);
    json_decref(reply);
    CHECK(model_run(model, init, &reply, &error) == STATUS_OK);
    json_decref(reply);
    CHECK(model_save(model, directory, NULL, NULL, &version, &error) == STATUS_OK);
    snprintf(path, sizeof path, "%s/%llu", directory, (unsigned long long)version);
    CHECK(served_graph_open(path, &graph, &error) == STATUS_OK);
    CHECK(directory_remove(directory, &error) == STATUS_OK);
    model_unref(model);
    json_decref(program);
    json_decref(init);
    return graph;
}

#endif
