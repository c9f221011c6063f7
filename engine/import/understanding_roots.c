/* Several whole models in one file: a state_dict beside the best one so far, an average of the weights beside these, a
 * module beside its state_dict. Their layers would be taken for one deeper stack. Thread: the one that imports.
 *
 * A root is what names begin with, whole components of them. It parts the tensors in two: where recurrent layers and a
 * matrix that could make logits of what one of these gives lie on both sides, there are two models. Copies are dropped,
 * and which of others it shall be is asked for. */
#include "engine/import/understanding_private.h"

enum { COMPONENTS_MAX = 16 };

/* A part of the tensors: what lies below a root, or what does not. */
struct side {
    const char *root;
    size_t length;
    bool is_outside;
};

static bool is_separator(char character)
{
    return character == '.' || character == '/';
}

static bool lies_below(const char *name, const char *root, size_t length)
{
    return strncmp(name, root, length) == 0 && is_separator(name[length]);
}

static bool is_of(const struct side *side, const char *name)
{
    return lies_below(name, side->root, side->length) != side->is_outside;
}

/* Whether a side has a matrix of so many units that belongs to no layer. */
static bool has_output(const struct thinking *thinking, const struct side *side, size_t units)
{
    for (size_t i = 0; i < thinking->model->tensor_count; i++) {
        const struct foreign_tensor *tensor = &thinking->model->tensors[i];
        if (!thinking->is_used[i] && tensor->shape.rank == 2 && dtype_is_float(tensor->dtype) &&
            think_dimension(tensor, thinking->layout->is_output_transposed ? 1 : 0) == units &&
            is_of(side, tensor->name)) {
            return true;
        }
    }
    return false;
}

static bool is_whole(const struct thinking *thinking, const struct side *side)
{
    for (size_t i = 0; i < thinking->layer_count; i++) {
        const struct layer *layer = &thinking->layers[i];
        if (is_of(side, layer->place) && has_output(thinking, side, layer->units)) {
            return true;
        }
    }
    return false;
}

/* The shortest root that parts two whole models; `outer` (NULL: none) is one of which another is looked for beside. */
static bool find_root(const struct thinking *thinking, const struct side *outer, struct side *ret_root)
{
    for (size_t components = 1; components <= COMPONENTS_MAX; components++) {
        for (size_t i = 0; i < thinking->layer_count; i++) {
            const char *place = thinking->layers[i].place;
            size_t length = 0;
            for (size_t left = components; left > 0 && place[length] != '\0'; left--) {
                length += length > 0 ? 1 : 0;
                while (place[length] != '\0' && !is_separator(place[length])) {
                    length++;
                }
            }
            struct side inside = {.root = place, .length = length};
            struct side outside = {.root = place, .length = length, .is_outside = true};
            bool is_other = outer == NULL || !lies_below(place, outer->root, outer->length);
            if (place[length] != '\0' && is_other && is_whole(thinking, &inside) && is_whole(thinking, &outside)) {
                *ret_root = inside;
                return true;
            }
        }
    }
    return false;
}

/* ---- copies ---- */

/* Where the layers of what is not below the root stand whose places end like those below it: before "rnn.l0" and
 * "ema.rnn.l0" where the root has "best.rnn.l0", "" and "ema.". Goes on from layer `*at`; false without another. */
static bool find_twin(const struct thinking *thinking, const struct side *root, size_t *at,
                      char twin[FOREIGN_NAME_BYTES_MAX])
{
    const char *below = "";
    for (size_t i = 0; i < thinking->layer_count && below[0] == '\0'; i++) {
        const char *place = thinking->layers[i].place;
        below = is_of(root, place) ? place + root->length + 1 : "";
    }
    while (*at < thinking->layer_count) {
        const char *place = thinking->layers[(*at)++].place;
        size_t length = strlen(place);
        size_t before = length < strlen(below) ? 0 : length - strlen(below);
        if (!is_of(root, place) && before < FOREIGN_NAME_BYTES_MAX && foreign_ends_in(place, length, below) &&
            (before == 0 || is_separator(place[before - 1]))) {
            memcpy(twin, place, before);
            twin[before] = '\0';
            return true;
        }
    }
    return false;
}

/* Whether all that lies below the root lies elsewhere, too, number for number, and nothing else there. */
static bool is_copy(const struct thinking *thinking, const struct side *root, const char *twin)
{
    const struct foreign_model *model = thinking->model;
    size_t count_below = 0;
    size_t count_elsewhere = 0;
    for (size_t i = 0; i < model->tensor_count; i++) {
        const struct foreign_tensor *tensor = &model->tensors[i];
        char name[2 * FOREIGN_NAME_BYTES_MAX];
        if (!is_of(root, tensor->name)) {
            count_elsewhere += strncmp(tensor->name, twin, strlen(twin)) == 0 ? 1 : 0;
            continue;
        }
        count_below++;
        snprintf(name, sizeof name, "%s%s", twin, tensor->name + root->length + 1);
        const struct foreign_tensor *other = foreign_find_tensor(model, name);
        if (other == NULL || !foreign_are_same(tensor, other)) {
            return false;
        }
    }
    return count_below == count_elsewhere;
}

/* ---- choosing ---- */

/* Leaves the tensors of one side; nothing is known of layers then. */
static void keep_side(struct thinking *thinking, const struct side *side)
{
    struct foreign_model *model = thinking->model;
    size_t count = 0;
    for (size_t i = 0; i < model->tensor_count; i++) {
        if (is_of(side, model->tensors[i].name)) {
            model->tensors[count++] = model->tensors[i];
        }
    }
    model->tensor_count = count;
    memset(thinking->is_used, 0, count * sizeof *thinking->is_used);
    thinking->layer_count = 0;
}

static enum status ask(const struct thinking *thinking, const struct side *root)
{
    struct side other = *root;
    bool has_other = find_root(thinking, root, &other);
    error_set(thinking->error, STATUS_UNPROCESSABLE,
              "it holds several models, one of them below %.*s, another %s%.*s: say --set root=%.*s or root=%.*s, or "
              "root=all if they are the layers of one",
              (int)root->length, root->root, has_other ? "below " : "outside of ", (int)other.length, other.root,
              (int)root->length, root->root, has_other ? (int)other.length : 4, has_other ? other.root : "none");
    return error_code(thinking->error, "ambiguous"), STATUS_UNPROCESSABLE;
}

enum status think_keep_root(struct thinking *thinking)
{
    const char *root = think_setting(thinking, "root");
    if (root == NULL || strcmp(root, "all") == 0 || strcmp(root, "none") == 0) {
        return STATUS_OK;
    }
    const struct side side = {.root = root, .length = strlen(root)};
    for (size_t i = 0; i < thinking->model->tensor_count; i++) {
        if (is_of(&side, thinking->model->tensors[i].name)) {
            keep_side(thinking, &side);
            return think_note(thinking, "root", root, "it was set");
        }
    }
    return error_set(thinking->error, STATUS_INVALID,
                     "root=%.60s: no tensor's name begins with it and goes on with a dot "
                     "or a slash",
                     root);
}

/* Why the model below a root is left out, or NULL: it has to be asked for. */
static const char *why_left_out(const struct thinking *thinking, const struct side *root)
{
    const char *set = think_setting(thinking, "root");
    bool is_none = set != NULL && strcmp(set, "none") == 0;
    char twin[FOREIGN_NAME_BYTES_MAX];
    struct side other;
    bool is_inner = !find_root(thinking, root, &other); /* all others' names begin with no root */
    for (size_t at = 0; find_twin(thinking, root, &at, twin);) {
        is_inner = is_inner || twin[0] == '\0';
        if (is_copy(thinking, root, twin)) {
            return "what lies below it lies elsewhere, too, number for number";
        }
    }
    return is_none && is_inner ? "root=none was set" : NULL;
}

enum status think_drop_copies(struct thinking *thinking, bool *ret_is_changed)
{
    const char *set = think_setting(thinking, "root");
    struct side root;
    *ret_is_changed = false;
    if ((set != NULL && strcmp(set, "all") == 0) || !find_root(thinking, NULL, &root)) {
        return STATUS_OK;
    }
    const char *why = why_left_out(thinking, &root);
    if (why == NULL) {
        return ask(thinking, &root);
    }
    char *name = arena_format(&thinking->model->arena, "%.*s", (int)root.length, root.root);
    if (name == NULL) {
        return foreign_no_memory(thinking->model, thinking->error);
    }
    keep_side(thinking, &(struct side){.root = name, .length = root.length, .is_outside = true});
    *ret_is_changed = true;
    return think_note(thinking, "left out", name, "%s", why);
}
