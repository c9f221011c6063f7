/* What the names of a run's fetches and feeds mean, with what TensorFlow says of those that mean nothing. Thread: any.
 * Source: TensorFlow 1.15, client/session.py, framework/ops.py (as_graph_element). */
#include "engine/graph/graph_private.h"
#include "engine/graph/session.h"

enum { REPR_BYTES_MAX = 768, REASON_BYTES_MAX = REPR_BYTES_MAX * 3 };

/* Appends to a text that must stay shorter than REPR_BYTES_MAX; drops what does not fit. */
static void append(char *text, size_t *length, const char *more)
{
    size_t more_length = strlen(more);
    if (*length + more_length < REPR_BYTES_MAX - 1) {
        memcpy(text + *length, more, more_length + 1);
        *length += more_length;
    }
}

/* A string as Python's repr writes it: 'foo', or "it's". */
static const char *python_repr(const char *string, char text[REPR_BYTES_MAX])
{
    char quote = strchr(string, '\'') != NULL && strchr(string, '"') == NULL ? '"' : '\'';
    size_t length = 1;
    text[0] = quote;
    text[1] = '\0';
    for (const char *at = string; *at != '\0'; at++) {
        char piece[8] = {*at};
        unsigned char byte = (unsigned char)*at;
        if (*at == quote || *at == '\\') {
            snprintf(piece, sizeof piece, "\\%c", *at);
        } else if (*at == '\n' || *at == '\r' || *at == '\t') {
            snprintf(piece, sizeof piece, "\\%c", *at == '\n' ? 'n' : *at == '\r' ? 'r' : 't');
        } else if (byte < ' ' || byte == 0x7f) {
            snprintf(piece, sizeof piece, "\\x%02x", byte);
        }
        append(text, &length, piece);
    }
    text[length] = quote;
    text[length + 1] = '\0';
    return text;
}

/* What a name means: a tensor ("x:0"), an operation, or nothing and why. */
enum meaning { MEANS_TENSOR, MEANS_OPERATION, MEANS_NO_NAME, MEANS_NO_OPERATION, MEANS_NO_TENSOR, MEANS_INNER };

struct found {
    enum meaning meaning;
    struct output output;
    struct node *node;
    char op_name[GRAPH_NAME_BYTES_MAX + 1];
};

/* The output's number behind the colon; false when it is none. */
static bool read_index(const char *text, uint32_t *ret_index)
{
    uint64_t index = 0;
    const char *at = text;
    for (; *at >= '0' && *at <= '9' && at < text + 9; at++) {
        index = index * 10 + (uint64_t)(*at - '0');
    }
    *ret_index = (uint32_t)index;
    return at != text && *at == '\0';
}

static void find(const struct graph *graph, const char *name, struct found *found)
{
    const char *colon = strchr(name, ':');
    size_t length = colon == NULL ? strlen(name) : (size_t)(colon - name);
    uint32_t index = 0;
    *found = (struct found){.meaning = MEANS_NO_OPERATION};
    snprintf(found->op_name, sizeof found->op_name, "%.*s", (int)(length > 2000 ? 2000 : length), name);
    if (colon != NULL && !read_index(colon + 1, &index)) {
        found->meaning = MEANS_NO_NAME;
        return;
    }
    if (length > GRAPH_NAME_BYTES_MAX) {
        return;
    }
    found->node = graph_find_node(graph, found->op_name);
    if (name_counts_find(&graph->inner_names, found->op_name) != NULL) {
        found->meaning = MEANS_INNER;
    } else if (found->node == NULL) {
        return;
    } else if (colon == NULL) {
        found->meaning = MEANS_OPERATION;
    } else {
        found->meaning = index < found->node->output_count ? MEANS_TENSOR : MEANS_NO_TENSOR;
        found->output = (struct output){found->node, index};
    }
}

/* Why a name means nothing, in TensorFlow's words. */
static void explain(const struct found *found, const char *name, char text[REASON_BYTES_MAX])
{
    char quoted[REPR_BYTES_MAX];
    char op_quoted[REPR_BYTES_MAX];
    char shortened[GRAPH_NAME_BYTES_MAX * 2 + 1];
    snprintf(shortened, sizeof shortened, "%s", name);
    python_repr(shortened, quoted);
    python_repr(found->op_name, op_quoted);
    bool is_tensor = strchr(name, ':') != NULL;
    if (found->meaning == MEANS_NO_NAME) {
        snprintf(text, REASON_BYTES_MAX,
                 "The name %s looks a like a Tensor name, but is not a valid one. Tensor names must be of the form "
                 "\"<op_name>:<output_index>\".",
                 quoted);
    } else if (found->meaning == MEANS_NO_TENSOR) {
        snprintf(text, REASON_BYTES_MAX,
                 "The name %s refers to a Tensor which does not exist. The operation, %s, exists but only has %u "
                 "outputs.",
                 quoted, op_quoted, found->node->output_count);
    } else if (is_tensor) {
        snprintf(text, REASON_BYTES_MAX,
                 "The name %s refers to a Tensor which does not exist. The operation, %s, does not exist in the graph.",
                 quoted, op_quoted);
    } else {
        snprintf(text, REASON_BYTES_MAX, "The name %s refers to an Operation not in the graph.", quoted);
    }
}

enum status session_find_fetch(const struct graph *graph, const char *name, struct output *ret_output,
                               struct node **ret_node, struct error *error)
{
    struct found found;
    char reason[REASON_BYTES_MAX];
    char quoted[REPR_BYTES_MAX];
    char shortened[GRAPH_NAME_BYTES_MAX * 2 + 1];
    find(graph, name, &found);
    if (found.meaning == MEANS_TENSOR) {
        *ret_output = found.output;
        *ret_node = NULL;
        return STATUS_OK;
    }
    if (found.meaning == MEANS_OPERATION) {
        *ret_output = (struct output){.node = NULL};
        *ret_node = found.node;
        return STATUS_OK;
    }
    if (found.meaning == MEANS_INNER) {
        error_raise(error, STATUS_UNPROCESSABLE, EXCEPTION_VALUE, "Operation %s has been marked as not fetchable.",
                    python_repr(found.op_name, quoted));
        return error_code(error, "inside_loop"), STATUS_UNPROCESSABLE;
    }
    explain(&found, name, reason);
    snprintf(shortened, sizeof shortened, "%s", name);
    python_repr(shortened, quoted);
    if (found.meaning == MEANS_NO_NAME) {
        error_raise(error, STATUS_INVALID, EXCEPTION_VALUE, "Fetch argument %s cannot be interpreted as a Tensor. (%s)",
                    quoted, reason);
        return error_code(error, "not_in_graph"), STATUS_INVALID;
    }
    char requoted[REPR_BYTES_MAX]; /* a KeyError prints its text as a repr */
    error_raise(error, STATUS_NOT_FOUND, EXCEPTION_VALUE, "Fetch argument %s cannot be interpreted as a Tensor. (%s)",
                quoted, python_repr(reason, requoted));
    return error_code(error, "not_in_graph"), STATUS_NOT_FOUND;
}

enum status session_find_feed(const struct graph *graph, const char *name, struct output *ret_output,
                              struct error *error)
{
    struct found found;
    char reason[REASON_BYTES_MAX];
    char quoted[REPR_BYTES_MAX];
    char shortened[GRAPH_NAME_BYTES_MAX * 2 + 1];
    bool is_tensor = strchr(name, ':') != NULL;
    find(graph, name, &found);
    if (found.meaning == MEANS_TENSOR) {
        *ret_output = found.output;
        return STATUS_OK;
    }
    snprintf(shortened, sizeof shortened, "%s", name);
    python_repr(shortened, quoted);
    if (found.meaning == MEANS_INNER && is_tensor) {
        error_raise(error, STATUS_UNPROCESSABLE, EXCEPTION_VALUE, "Tensor %s may not be fed.", quoted);
        return error_code(error, "inside_loop"), STATUS_UNPROCESSABLE;
    }
    if (!is_tensor) {
        bool is_operation = found.meaning == MEANS_OPERATION || found.meaning == MEANS_INNER;
        snprintf(reason, sizeof reason,
                 "The name %s %s, not a Tensor. Tensor names must be of the form \"<op_name>:<output_index>\".", quoted,
                 is_operation ? "refers to an Operation" : "looks like an (invalid) Operation name");
    } else {
        explain(&found, name, reason);
    }
    enum status status = is_tensor && found.meaning != MEANS_NO_NAME ? STATUS_NOT_FOUND : STATUS_INVALID;
    error_raise(error, status, EXCEPTION_TYPE, "Cannot interpret feed_dict key as Tensor: %s", reason);
    return error_code(error, "not_in_graph"), status;
}
