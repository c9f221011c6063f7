/* graph.json: the programs that make a graph, in order, and what they left. {"format":1,"programs":[{"program":[…],
 * "reuse":…,"at":…,"request_id":…},…]}. Loading replays them through the interpreter that HTTP uses, so names come
 * out the same. Thread: any. */
#ifndef ENGINE_STORE_GRAPH_FILE_H
#define ENGINE_STORE_GRAPH_FILE_H

#include <jansson.h>

#include "engine/graph/graph.h"
#include "engine/text/vocabulary.h"

enum { GRAPH_FILE_FORMAT = 1, GRAPH_FILE_PROGRAMS_MAX = 100000 };

/* What replaying makes. `programs` is the list, to be kept and grown; `vocabulary` may be NULL. */
struct replayed_graph {
    struct graph *graph;
    json_t *programs;
    struct vocabulary *vocabulary;
};

/* Parses and replays graph.json's content. CORRUPT names what is wrong. Release with replayed_graph_release. */
enum status graph_file_replay(const char *bytes, size_t length, struct replayed_graph *ret_graph,
                              struct error *error) MUST_CHECK;
void replayed_graph_release(struct replayed_graph *replayed);

/* graph.json's content from a list of programs; free with mem_free. */
enum status graph_file_format(const json_t *programs, char **ret_bytes, size_t *ret_length,
                              struct error *error) MUST_CHECK;

#endif
