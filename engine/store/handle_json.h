/* Handles as JSON, as build replies and GET graph show them. Thread: any that may read the graph. */
#ifndef ENGINE_STORE_HANDLE_JSON_H
#define ENGINE_STORE_HANDLE_JSON_H

#include <jansson.h>

#include "engine/graph/handles.h"

/* Everything there is to say: {"kind":"tensor"|"operation"|"variable"|"scope"|"cell"|"optimizer"|"saver"|"layer"|
 * "text"|"list"|"none", "name", "shape", "dtype", …}; a list has "items", and "names" where it has any. New
 * reference; NULL without memory. */
json_t *handle_to_json(const struct graph *graph, const struct handle *handle);

/* Its graph name alone: "a/v:0"; of a list a list, or an object where all items have names; null of what has none. */
json_t *handle_name_to_json(const struct graph *graph, const struct handle *handle);

/* false, true or "auto". */
json_t *reuse_to_json(int reuse);

#endif
