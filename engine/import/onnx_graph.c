/* Looking around in an ONNX graph. Thread: the one that imports. Owns nothing. */
#include "engine/import/onnx_graph.h"

#include <stdarg.h>

/* ---- nodes ---- */

const char *onnx_input(const Onnx__NodeProto *node, size_t index)
{
    return index < node->n_input && node->input[index][0] != '\0' ? node->input[index] : NULL;
}

const Onnx__AttributeProto *onnx_attribute(const Onnx__NodeProto *node, const char *name)
{
    for (size_t i = 0; i < node->n_attribute; i++) {
        if (node->attribute[i]->name != NULL && strcmp(node->attribute[i]->name, name) == 0) {
            return node->attribute[i];
        }
    }
    return NULL;
}

int64_t onnx_integer(const Onnx__NodeProto *node, const char *name, int64_t otherwise)
{
    const Onnx__AttributeProto *attribute = onnx_attribute(node, name);
    return attribute != NULL && attribute->has_i ? attribute->i : otherwise;
}

bool onnx_is(const Onnx__NodeProto *node, const char *op)
{
    bool is_standard = node->domain == NULL || node->domain[0] == '\0' || strcmp(node->domain, "ai.onnx") == 0;
    return is_standard && node->op_type != NULL && strcmp(node->op_type, op) == 0;
}

bool onnx_text_equals(const ProtobufCBinaryData *text, const char *want)
{
    return text->len == strlen(want) && memcmp(text->data, want, text->len) == 0;
}

const char *onnx_name(const Onnx__NodeProto *node)
{
    bool has_name = node->name != NULL && node->name[0] != '\0';
    return has_name ? node->name : node->n_output > 0 ? node->output[0] : "";
}

enum status onnx_refuse(const Onnx__NodeProto *node, struct error *error, const char *format, ...)
{
    char what[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(what, sizeof what, format, arguments);
    va_end(arguments);
    return error_set(error, STATUS_UNSUPPORTED, "node '%.200s' (%.60s): %s", onnx_name(node),
                     node->op_type == NULL ? "no op" : node->op_type, what);
}

/* ---- values by name ---- */

static int by_name(const void *left, const void *right)
{
    const struct onnx_output *a = left;
    const struct onnx_output *b = right;
    return strcmp(a->name, b->name);
}

enum status onnx_graph_init(struct onnx_graph *graph, struct foreign_model *model, const Onnx__GraphProto *proto,
                            struct error *error)
{
    size_t count = 0;
    for (size_t i = 0; i < proto->n_node; i++) {
        count += proto->node[i]->n_output;
    }
    *graph = (struct onnx_graph){.model = model, .proto = proto};
    graph->outputs = arena_allocate(&model->arena, count + 1, sizeof *graph->outputs);
    if (graph->outputs == NULL) {
        return foreign_no_memory(model, error);
    }
    for (size_t i = 0; i < proto->n_node; i++) {
        const Onnx__NodeProto *node = proto->node[i];
        for (size_t o = 0; o < node->n_output; o++) {
            if (node->output[o][0] != '\0') {
                graph->outputs[graph->output_count++] = (struct onnx_output){node->output[o], node, o};
            }
        }
    }
    qsort(graph->outputs, graph->output_count, sizeof *graph->outputs, by_name);
    for (size_t i = 1; i < graph->output_count; i++) {
        if (by_name(&graph->outputs[i - 1], &graph->outputs[i]) == 0) {
            return error_set(error, STATUS_CORRUPT, "two nodes make '%.200s'", graph->outputs[i].name);
        }
    }
    return STATUS_OK;
}

const struct onnx_output *onnx_find_output(const struct onnx_graph *graph, const char *name)
{
    const struct onnx_output key = {.name = name};
    return bsearch(&key, graph->outputs, graph->output_count, sizeof *graph->outputs, by_name);
}

static int tensor_by_name(const void *left, const void *right)
{
    const struct foreign_tensor *a = left;
    const struct foreign_tensor *b = right;
    return strcmp(a->name, b->name);
}

const struct foreign_tensor *onnx_find_tensor(const struct onnx_graph *graph, const char *name)
{
    const struct foreign_tensor key = {.name = name};
    return graph->model->tensor_count == 0
               ? NULL
               : bsearch(&key, graph->model->tensors, graph->model->tensor_count, sizeof key, tensor_by_name);
}

const Onnx__ValueInfoProto *onnx_find_input(const struct onnx_graph *graph, const char *name)
{
    for (size_t i = 0; i < graph->proto->n_input; i++) {
        const Onnx__ValueInfoProto *input = graph->proto->input[i];
        if (input->name != NULL && strcmp(input->name, name) == 0) {
            return onnx_find_tensor(graph, name) == NULL ? input : NULL;
        }
    }
    return NULL;
}

/* ---- what makes a value ---- */

static bool is_one_of(const Onnx__NodeProto *node, const char *const *ops)
{
    for (size_t i = 0; ops[i] != NULL; i++) {
        if (onnx_is(node, ops[i])) {
            return true;
        }
    }
    return false;
}

static const char *const shape_ops[] = {"Identity", "Squeeze", "Unsqueeze", "Reshape", "Flatten", "Transpose",
                                        "Cast",     "Dropout", "Slice",     "Expand",  NULL};

/* Whether a value is a constant of which at most the shape was changed. */
static bool is_table(const struct onnx_graph *graph, const char *name)
{
    for (size_t i = 0; i <= graph->proto->n_node && name != NULL; i++) {
        const struct onnx_output *output = onnx_find_output(graph, name);
        if (output == NULL || onnx_is(output->node, "Constant")) {
            return onnx_find_tensor(graph, name) != NULL;
        }
        name = is_one_of(output->node, shape_ops) ? onnx_input(output->node, 0) : NULL;
    }
    return false;
}

static bool changes_shape(const struct onnx_graph *graph, const Onnx__NodeProto *node)
{
    if (is_one_of(node, shape_ops)) {
        return true;
    }
    /* It chooses a step, unless it looks symbols up in a table. */
    return onnx_is(node, "Gather") && !is_table(graph, onnx_input(node, 0));
}

enum status onnx_find_source(const struct onnx_graph *graph, const char *name, struct onnx_output *ret_source,
                             struct error *error)
{
    for (size_t i = 0; i <= graph->proto->n_node; i++) {
        const struct onnx_output *output = onnx_find_output(graph, name);
        bool goes_on = output != NULL && onnx_input(output->node, 0) != NULL && changes_shape(graph, output->node);
        if (!goes_on) {
            *ret_source = output != NULL ? *output : (struct onnx_output){.name = name};
            return STATUS_OK;
        }
        name = onnx_input(output->node, 0);
    }
    return error_set(error, STATUS_CORRUPT, "'%.200s' is made of itself", name);
}
