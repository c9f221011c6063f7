/* Tensors as JSON, in the three forms of the HTTP API: nested lists, {"dtype","shape","data":[flat]}, and
 * {"dtype","shape","base64"} with little-endian elements. NaN and infinities are the strings "NaN", "Infinity",
 * "-Infinity". Thread: any. */
#ifndef ENGINE_STORE_TENSOR_JSON_H
#define ENGINE_STORE_TENSOR_JSON_H

#include <jansson.h>

#include "engine/math/tensor.h"

enum {
    TENSOR_JSON_ELEMENTS_MAX = 1 << 26,
    TENSOR_JSON_REPLY_ELEMENTS_MAX = 1 << 24, /* of a reply, as JSON numbers */
};

enum tensor_encoding { TENSOR_NESTED, TENSOR_FLAT, TENSOR_BASE64, TENSOR_ENCODING_COUNT };

/* Finds an encoding by name ("nested", "flat", "base64"); false when there is none. */
bool tensor_encoding_from_name(const char *name, enum tensor_encoding *ret_encoding);

/* Reads a tensor of the wanted dtype: integers stay exact, numbers become the nearest float. INVALID names what is
 * wrong (ragged lists, a wrong type, a value out of range, a dtype that is not the wanted one); TOO_LARGE above
 * TENSOR_JSON_ELEMENTS_MAX. Owned: tensor_release. */
enum status tensor_from_json(const json_t *json, enum dtype dtype, struct tensor *ret_tensor,
                             struct error *error) MUST_CHECK;

/* As tensor_from_json for what is fed: as numpy does it, true is 1, 2.0 is 2, and for bool every number but 0 is true;
 * what a whole number would lose is INVALID all the same. */
enum status tensor_convert_json(const json_t *json, enum dtype dtype, struct tensor *ret_tensor,
                                struct error *error) MUST_CHECK;

/* New reference. */
enum status tensor_to_json(const struct tensor *tensor, enum tensor_encoding encoding, json_t **ret_json,
                           struct error *error) MUST_CHECK;

/* [2,null] for a shape, null where the rank is unknown; new reference or NULL without memory. */
json_t *shape_to_json(const struct shape *shape);
/* The reverse. INVALID names the dimension. */
enum status shape_from_json(const json_t *json, struct shape *ret_shape, struct error *error) MUST_CHECK;

#endif
