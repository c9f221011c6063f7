/* Torch7's files: the modules in them, with the tensors of their fields. Thread: the one that imports.
 *
 * Modules are what torch's nn saves: an object of a class, whose weights are the fields below; nn.Sequential and its
 * like hold others in the field modules, torch-rnn's nn.LanguageModel one in net, nngraph's nn.gModule one in each node
 * of forwardnodes, which may be named by an annotation. A tensor is named PATH.CLASS.FIELD: "model.2.LSTM.weight". How
 * many modules there are of a class is a hint, "module nn.CAddTable": "4". Source: nn, Module.lua and Container.lua;
 * nngraph, gmodule.lua and node.lua; torch-rnn, LanguageModel.lua; char-rnn, train.lua. */
#include "engine/import/readers.h"
#include "engine/import/torch7.h"

enum { DEPTH_MAX = 24, STEPS_MAX = 200000, CLASSES_MAX = 64 };

struct walk {
    struct foreign_model *model;
    struct torch7_file file;
    size_t steps;
    struct {
        const char *name;
        size_t count;
    } classes[CLASSES_MAX];
    size_t class_count;
    struct error *error;
};

bool torch7_recognise(const struct source_file *file)
{
    unsigned char head[SOURCE_HEAD_BYTES];
    return torch7_begins(head, foreign_source_peek(file, 0, head));
}

/* ---- modules ---- */

static enum status visit(struct walk *walk, const char *path, const struct plain *value, size_t depth);

/* `key` below a path: a string, or a table's number. NULL: no memory, or a key that is neither. */
static const char *join(struct walk *walk, const char *path, const struct plain *key)
{
    const char *dot = path[0] == '\0' ? "" : ".";
    int64_t number = 0;
    if (plain_integer(key, &number)) {
        return arena_format(&walk->model->arena, "%s%s%lld", path, dot, (long long)number);
    }
    return arena_format(&walk->model->arena, "%s%s%s", path, dot, key->text);
}

static bool is_name(const struct plain *key)
{
    return plain_is_string(key) && key->length > 0 && key->length <= FOREIGN_NAME_BYTES_MAX;
}

/* Visits a table's values by their numbers, or by their names too. */
static enum status visit_table(struct walk *walk, const char *path, const struct plain *table, bool takes_names,
                               size_t depth)
{
    for (uint32_t i = 0; table != NULL && table->kind == PLAIN_DICT && i + 1 < table->count; i += 2) {
        const struct plain *key = table->items[i];
        if (key->kind != (takes_names ? PLAIN_BYTES : PLAIN_INTEGER) || (takes_names && !is_name(key))) {
            continue;
        }
        const char *below = join(walk, path, key);
        if (below == NULL) {
            return foreign_no_memory(walk->model, walk->error);
        }
        TRY(visit(walk, below, table->items[i + 1], depth + 1));
    }
    return STATUS_OK;
}

/* nngraph's nodes: those that hold a module, by their names, else by their numbers. */
static enum status visit_nodes(struct walk *walk, const char *path, const struct plain *nodes, size_t depth)
{
    for (uint32_t i = 0; nodes->kind == PLAIN_DICT && i + 1 < nodes->count; i += 2) {
        const struct plain *node = nodes->items[i + 1];
        const struct plain *data = plain_get(node->kind == PLAIN_CALL ? node->state : NULL, "data");
        const struct plain *module = plain_get(data, "module");
        const struct plain *name = plain_get(plain_get(data, "annotations"), "name");
        if (module == NULL || nodes->items[i]->kind != PLAIN_INTEGER) {
            continue;
        }
        const char *below = join(walk, path, name != NULL && is_name(name) ? name : nodes->items[i]);
        if (below == NULL) {
            return foreign_no_memory(walk->model, walk->error);
        }
        TRY(visit(walk, below, module, depth + 1));
    }
    return STATUS_OK;
}

/* Counts a module's class; more classes than any model has are left out, and then missed. */
static void count_class(struct walk *walk, const char *name)
{
    for (size_t i = 0; i < walk->class_count; i++) {
        if (strcmp(walk->classes[i].name, name) == 0) {
            walk->classes[i].count++;
            return;
        }
    }
    if (walk->class_count < CLASSES_MAX) {
        walk->classes[walk->class_count].name = name;
        walk->classes[walk->class_count++].count = 1;
    }
}

static enum status add_fields(struct walk *walk, const char *path, const struct plain *module)
{
    static const char *const fields[] = {"weight", "bias", "running_mean", "running_var"};
    const char *dot = strrchr(module->global, '.');
    const char *class_name = dot == NULL ? module->global : dot + 1;
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        const struct torch_view *view = torch7_tensor(&walk->file, plain_get(module->state, fields[i]));
        const char *between = path[0] == '\0' ? "" : ".";
        if (view == NULL || view->shape.rank == 0) {
            continue;
        }
        char *name = arena_format(&walk->model->arena, "%s%s%s.%s", path, between, class_name, fields[i]);
        if (name == NULL) {
            return foreign_no_memory(walk->model, walk->error);
        }
        TRY(torch_add_view(walk->model, name, view, walk->error));
    }
    return STATUS_OK;
}

static enum status visit_module(struct walk *walk, const char *path, const struct plain *module, size_t depth)
{
    const struct plain *nodes = plain_get(module->state, "forwardnodes");
    size_t length = strlen(module->global);
    if (length >= 9 && strcmp(module->global + length - 9, "Criterion") == 0) {
        return STATUS_OK; /* what a training compares */
    }
    count_class(walk, module->global);
    TRY(add_fields(walk, path, module));
    if (nodes != NULL) {
        return visit_nodes(walk, path, nodes, depth);
    }
    if (strcmp(module->global, "nn.LanguageModel") == 0) {
        return visit(walk, path, plain_get(module->state, "net"), depth + 1);
    }
    return visit_table(walk, path, plain_get(module->state, "modules"), false, depth);
}

static enum status visit(struct walk *walk, const char *path, const struct plain *value, size_t depth)
{
    const struct torch_view *view = torch7_tensor(&walk->file, value);
    if (value == NULL || depth > DEPTH_MAX) {
        return STATUS_OK;
    }
    if (++walk->steps > STEPS_MAX) {
        return error_set(walk->error, STATUS_LIMIT, "%.200s: more than %d modules and tables", walk->model->entry,
                         STEPS_MAX);
    }
    if (view != NULL) {
        return view->shape.rank == 0 ? STATUS_OK : torch_add_view(walk->model, path, view, walk->error);
    }
    if (value->kind == PLAIN_CALL && value->state != NULL && value->state->kind == PLAIN_DICT) {
        return visit_module(walk, path, value, depth);
    }
    return value->kind == PLAIN_DICT ? visit_table(walk, path, value, true, depth) : STATUS_OK;
}

/* ---- all of it ---- */

/* char-rnn's vocab: {symbol: number}; torch-rnn's model.idx_to_token: {number: symbol}. */
static enum status add_symbols(struct walk *walk)
{
    const struct plain *model = plain_get(walk->file.root, "model");
    const struct plain *tokens =
        plain_get(model != NULL && model->kind == PLAIN_CALL ? model->state : NULL, "idx_to_token");
    const struct plain *found = tokens != NULL ? tokens : plain_get(walk->file.root, "vocab");
    const char *place = arena_format(&walk->model->arena, "%s, %s", walk->model->entry,
                                     tokens != NULL ? "model.idx_to_token" : "vocab");
    if (place == NULL) {
        return foreign_no_memory(walk->model, walk->error);
    }
    return found == NULL ? STATUS_OK : foreign_add_vocabularies(walk->model, place, found, walk->error);
}

static enum status add_hints(struct walk *walk)
{
    for (size_t i = 0; i < walk->class_count; i++) {
        char *key = arena_format(&walk->model->arena, "module %s", walk->classes[i].name);
        char *value = arena_format(&walk->model->arena, "%zu", walk->classes[i].count);
        if (key == NULL || value == NULL) {
            return foreign_no_memory(walk->model, walk->error);
        }
        TRY(foreign_add_hint(walk->model, NULL, key, value, walk->error));
    }
    return STATUS_OK;
}

enum status torch7_read(struct foreign_source *source, struct source_file *file, struct foreign_model *model,
                        struct error *error)
{
    struct walk walk = {.model = model, .error = error};
    const unsigned char *bytes = NULL;
    size_t length = 0;
    model->format = "Torch7";
    model->counts_from_one = true;
    TRY(foreign_source_read(source, file, &bytes, &length, error));
    TRY(torch7_parse(bytes, length, file->name, model, &walk.file, error));
    TRY(visit(&walk, "", walk.file.root, 0));
    TRY(add_hints(&walk));
    return add_symbols(&walk);
}
