/* A graph in Graphviz' language. Thread: any that may read the graph. Owns the text while it grows. */
#include "engine/store/graph_json.h"

#include "engine/base/mem.h"

struct drawing {
    const struct graph *graph;
    FILE *file;
    uint32_t *owners;           /* by node id: variable index + 1 of its state and reading */
    bool *is_hidden;            /* by node id: part of a variable, drawn with it */
    const struct node **sorted; /* by name, so that what is in one scope stands together */
};

/* ---- texts ---- */

static void write_quoted(FILE *file, const char *text, size_t length)
{
    for (size_t i = 0; i < length && text[i] != '\0'; i++) {
        if (text[i] == '"' || text[i] == '\\') {
            fputc('\\', file);
        }
        fputc((unsigned char)text[i] < ' ' ? ' ' : text[i], file);
    }
}

static void write_text(FILE *file, const char *text)
{
    write_quoted(file, text, strlen(text));
}

static const char *base_name(const char *name)
{
    const char *slash = strrchr(name, '/');
    return slash == NULL ? name : slash + 1;
}

static size_t scope_length(const char *name)
{
    const char *slash = strrchr(name, '/');
    return slash == NULL ? 0 : (size_t)(slash - name);
}

/* ---- what is drawn ---- */

/* Whether `node` only serves its variable: reading, initial value, assignment of that. */
static bool serves_variable(const struct graph *graph, const struct node *node)
{
    for (const char *slash = strchr(node->name, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        char name[GRAPH_NAME_BYTES_MAX + 1];
        size_t length = (size_t)(slash - node->name);
        if (length >= sizeof name) {
            return false;
        }
        memcpy(name, node->name, length);
        name[length] = '\0';
        const char *rest = slash + 1;
        bool is_service = strcmp(rest, "read") == 0 || strcmp(rest, "Assign") == 0 ||
                          strncmp(rest, "Initializer/", 12) == 0 || strncmp(rest, "initial_value", 13) == 0;
        if (is_service && graph_find_variable(graph, name) != NULL) {
            return true;
        }
    }
    return false;
}

static int compare_names(const void *a, const void *b)
{
    const struct node *const *one = a;
    const struct node *const *other = b;
    return strcmp((*one)->name, (*other)->name);
}

static bool prepare(struct drawing *drawing)
{
    size_t count = graph_node_count(drawing->graph);
    drawing->owners = graph_variable_nodes(drawing->graph);
    drawing->is_hidden = mem_allocate(count + 1, sizeof *drawing->is_hidden);
    drawing->sorted = mem_allocate(count + 1, sizeof(const struct node *));
    if (drawing->owners == NULL || drawing->is_hidden == NULL || drawing->sorted == NULL) {
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        drawing->sorted[i] = graph_node(drawing->graph, i);
        drawing->is_hidden[i] = serves_variable(drawing->graph, drawing->sorted[i]);
    }
    qsort(drawing->sorted, count, sizeof(const struct node *), compare_names);
    return true;
}

/* ---- boxes and nodes ---- */

static void write_node(const struct drawing *drawing, const struct node *node)
{
    char shape[SHAPE_TEXT_BYTES_MAX];
    fprintf(drawing->file, "n%u [label=\"", node->id);
    write_text(drawing->file, base_name(node->name));
    if (drawing->owners[node->id] != 0) {
        const struct variable *variable = graph_variable(drawing->graph, drawing->owners[node->id] - 1);
        fprintf(drawing->file, "\\n%s %s\", shape=cylinder, style=\"filled%s\", fillcolor=lightyellow];\n",
                dtype_name(node->outputs[0].dtype), shape_text(&node->outputs[0].shape, shape),
                variable->is_trainable ? "" : ",dashed");
        return;
    }
    if (strcmp(base_name(node->name), node_op_name(node)) != 0) {
        fputs("\\n", drawing->file);
        write_text(drawing->file, node_op_name(node));
    }
    fputs("\"];\n", drawing->file);
}

/* Closes and opens boxes so that the one of `scope` (`length` bytes) is open. */
static void change_scope(const struct drawing *drawing, const char *from, size_t from_length, const char *scope,
                         size_t length)
{
    size_t common = 0; /* bytes of the scopes both are in */
    for (size_t i = 0; i <= from_length && i <= length; i++) {
        bool ends_from = i == from_length || from[i] == '/';
        bool ends_scope = i == length || scope[i] == '/';
        if (ends_from && ends_scope) {
            common = i;
        }
        if (i == from_length || i == length || from[i] != scope[i]) {
            break;
        }
    }
    for (size_t i = from_length; i > common; i--) {
        if (i == from_length || from[i] == '/') {
            fputs("}\n", drawing->file);
        }
    }
    for (size_t start = common == 0 ? 0 : common + 1; start < length;) {
        const char *slash = memchr(scope + start, '/', length - start);
        size_t end = slash == NULL ? length : (size_t)(slash - scope);
        fputs("subgraph \"cluster_", drawing->file);
        write_quoted(drawing->file, scope, end);
        fputs("\" {\nlabel=\"", drawing->file);
        write_quoted(drawing->file, scope + start, end - start);
        fputs("\";\n", drawing->file);
        start = end + 1;
    }
}

static void write_nodes(const struct drawing *drawing)
{
    const char *scope = "";
    size_t length = 0;
    for (size_t i = 0; i < graph_node_count(drawing->graph); i++) {
        const struct node *node = drawing->sorted[i];
        if (drawing->is_hidden[node->id]) {
            continue;
        }
        change_scope(drawing, scope, length, node->name, scope_length(node->name));
        scope = node->name;
        length = scope_length(node->name);
        write_node(drawing, node);
    }
    change_scope(drawing, scope, length, "", 0);
}

/* ---- edges ---- */

/* The node an edge from `node` begins at: a variable for what reads it. */
static const struct node *source_of(const struct drawing *drawing, const struct node *node)
{
    uint32_t owner = drawing->owners[node->id];
    return owner == 0 ? node : graph_variable(drawing->graph, owner - 1)->node;
}

static void write_edges(const struct drawing *drawing, const struct node *node)
{
    char shape[SHAPE_TEXT_BYTES_MAX];
    for (size_t i = 0; i < node->input_count; i++) {
        const struct node *source = source_of(drawing, node->inputs[i].node);
        const struct output_type *type = output_type(node->inputs[i]);
        if (!drawing->is_hidden[source->id]) {
            fprintf(drawing->file, "n%u -> n%u [label=\"%s\"];\n", source->id, node->id,
                    shape_text(&type->shape, shape));
        }
    }
    for (size_t i = 0; i < node->control_count; i++) {
        const struct node *source = source_of(drawing, node->controls[i]);
        if (!drawing->is_hidden[source->id]) {
            fprintf(drawing->file, "n%u -> n%u [style=dotted];\n", source->id, node->id);
        }
    }
}

static enum status draw(const struct drawing *drawing, struct error *error)
{
    fputs("digraph graph_of_model {\nrankdir=BT;\nnode [shape=box, fontname=\"sans-serif\", fontsize=10];\n"
          "edge [fontname=\"sans-serif\", fontsize=8];\n",
          drawing->file);
    write_nodes(drawing);
    for (size_t i = 0; i < graph_node_count(drawing->graph); i++) {
        const struct node *node = graph_node(drawing->graph, i);
        if (!drawing->is_hidden[i]) {
            write_edges(drawing, node);
        }
        if (ftello(drawing->file) > GRAPH_DOT_BYTES_MAX) {
            return error_set(error, STATUS_TOO_LARGE, "the graph's picture has more than %d bytes",
                             GRAPH_DOT_BYTES_MAX);
        }
    }
    fputs("}\n", drawing->file);
    return STATUS_OK;
}

enum status graph_to_dot(const struct graph *graph, char **ret_text, size_t *ret_length, struct error *error)
{
    char *text = NULL;
    size_t length = 0;
    struct drawing drawing = {.graph = graph};
    enum status status = error_set(error, STATUS_NO_MEMORY, "no memory for the graph's picture");
    bool is_ready = prepare(&drawing);
    drawing.file = is_ready ? open_memstream(&text, &length) : NULL;
    if (drawing.file != NULL) {
        status = draw(&drawing, error);
        bool is_whole = ferror(drawing.file) == 0;
        is_whole = fclose(drawing.file) == 0 && is_whole;
        char *copy = status == STATUS_OK && is_whole ? mem_copy_bytes(text, length) : NULL;
        if (status == STATUS_OK && copy == NULL) {
            status = error_set(error, STATUS_NO_MEMORY, "no memory for the graph's picture");
        } else if (status == STATUS_OK) {
            *ret_text = copy;
            *ret_length = length;
        }
    }
    free(text);
    mem_free(drawing.owners);
    mem_free(drawing.is_hidden);
    mem_free(drawing.sorted);
    return status;
}
