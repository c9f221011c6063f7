/* JSON written into tests. */
#ifndef TESTS_UNIT_JSON_RIG_H
#define TESTS_UNIT_JSON_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <jansson.h>

/* The value; json_decref frees it. */
static inline json_t *parse(const char *text)
{
    json_error_t error;
    json_t *json = json_loads(text, 0, &error);
    if (json == NULL) {
        fail_msg("%s: %s", text, error.text);
    }
    return json;
}

#endif
