/* What is refused of a request before anything is compiled, in TensorFlow's words. Thread: any.
 * Source: TensorFlow 1.15, client/session.py. */
#include "engine/graph/session_private.h"

static bool is_in(const struct graph *graph, const struct node *node)
{
    return node->id < graph->node_count && graph->nodes[node->id] == node;
}

/* What TensorFlow prints of a tensor: Tensor("x:0", shape=(?, 10), dtype=float32). */
static void print_tensor(struct output output, char *text, size_t text_bytes)
{
    const struct output_type *type = output_type(output);
    char name[OUTPUT_NAME_BYTES_MAX];
    char shape[SHAPE_TEXT_BYTES_MAX];
    bool has_shape = type->shape.rank != SHAPE_RANK_UNKNOWN;
    snprintf(text, text_bytes, "Tensor Tensor(\"%s\"%s%s, dtype=%s%s) is not an element of this graph.",
             output_name(output, name), has_shape ? ", shape=" : "", has_shape ? shape_text(&type->shape, shape) : "",
             dtype_name(type->dtype), output.node->variable != NULL ? "_ref" : "");
}

enum { TENSOR_TEXT_BYTES_MAX = OUTPUT_NAME_BYTES_MAX + SHAPE_TEXT_BYTES_MAX + 128 };

static enum status check_dtypes(const struct session_request *request, struct error *error)
{
    for (size_t i = 0; i < request->feed_count; i++) {
        const struct feed *feed = &request->feeds[i];
        enum dtype wanted = output_type(feed->output)->dtype;
        if (feed->value->dtype != wanted) {
            char name[OUTPUT_NAME_BYTES_MAX];
            return error_set(error, STATUS_INVALID, "Tensor '%s' is fed %s, its dtype is %s",
                             output_name(feed->output, name), dtype_name(feed->value->dtype), dtype_name(wanted));
        }
    }
    return STATUS_OK;
}

static enum status check_feeds(const struct graph *graph, const struct session_request *request, struct error *error)
{
    char text[TENSOR_TEXT_BYTES_MAX];
    if (request->feed_count > PLAN_FEEDS_MAX) {
        return error_set(error, STATUS_LIMIT, "%zu feeds; a run takes at most %d", request->feed_count, PLAN_FEEDS_MAX);
    }
    for (size_t i = 0; i < request->feed_count; i++) {
        const struct feed *feed = &request->feeds[i];
        if (!is_in(graph, feed->output.node)) {
            print_tensor(feed->output, text, sizeof text);
            error_raise(error, STATUS_NOT_FOUND, EXCEPTION_TYPE, "Cannot interpret feed_dict key as Tensor: %s", text);
            return error_code(error, "not_in_graph"), STATUS_NOT_FOUND;
        }
        TRY(plan_check_feed(feed->output, &feed->value->shape, error));
        for (size_t before = 0; before < i; before++) {
            if (output_equal(request->feeds[before].output, feed->output)) {
                return error_set(error, STATUS_INVALID, "Tensor '%s' is fed twice", output_name(feed->output, text));
            }
        }
    }
    return STATUS_OK;
}

static enum status check_fetches(const struct graph *graph, const struct session_request *request, struct error *error)
{
    for (size_t i = 0; i < request->fetch_count; i++) {
        struct output output = request->fetches[i];
        if (!is_in(graph, output.node)) {
            const struct output_type *type = output_type(output);
            char text[TENSOR_TEXT_BYTES_MAX];
            char name[OUTPUT_NAME_BYTES_MAX];
            char shape[SHAPE_TEXT_BYTES_MAX];
            bool is_variable = output.node->variable != NULL;
            print_tensor(output, text, sizeof text);
            error_raise(error, STATUS_NOT_FOUND, EXCEPTION_VALUE,
                        "Fetch argument <tf.%s '%s' shape=%s dtype=%s%s> cannot be interpreted as a Tensor. (%s)",
                        is_variable ? "Variable" : "Tensor", output_name(output, name), shape_text(&type->shape, shape),
                        dtype_name(type->dtype), is_variable ? "_ref" : "", text);
            return error_code(error, "not_in_graph"), STATUS_NOT_FOUND;
        }
    }
    for (size_t i = 0; i < request->target_count; i++) {
        const struct node *node = request->targets[i];
        if (!is_in(graph, node)) {
            error_raise(
                error, STATUS_NOT_FOUND, EXCEPTION_VALUE,
                "Fetch argument <tf.Operation '%s' type=%s> cannot be interpreted as a Tensor. (Operation name: "
                "\"%s\"\nop: \"%s\"\n is not an element of this graph.)",
                node->name, node_op_name(node), node->name, node_op_name(node));
            return error_code(error, "not_in_graph"), STATUS_NOT_FOUND;
        }
    }
    return STATUS_OK;
}

enum status session_check_request(const struct graph *graph, const struct session_request *request, struct error *error)
{
    TRY(check_feeds(graph, request, error));
    TRY(check_dtypes(request, error));
    return check_fetches(graph, request, error);
}
