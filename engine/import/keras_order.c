/* The order of a Keras model's layers where its weights do not list them, as in what save_weights of Keras 3 writes
 * (.weights.h5), and in checkpoints whose layers are attributes of a model. Thread: the one that imports.
 *
 * Keras 3 names such layers by their classes and counts them: lstm, lstm_1, dense. Names that differ in their numbers
 * alone stand in that order, and an embedding first. Of the orders that this leaves, each layer has to take as many
 * columns as the one before it gives, and the last, a Dense, to give as many as there are symbols. Where just one is
 * left, it is the model's; else it is asked for. Where an activation stands no shape tells. Source: Keras 3,
 * saving/saving_lib.py, _save_container_state. */
#include "engine/import/keras_private.h"

enum { STEPS_MAX = 2000, NAMES_BYTES_MAX = 300 };

/* A layer while its place is sought. */
struct unplaced {
    struct keras_part part;
    size_t inputs; /* columns that it takes and gives; 0: as many as there are */
    size_t outputs;
    bool is_placed;
    size_t group_first;        /* layers whose names differ in their numbers alone are a group: the first of its own */
    size_t group_before_count; /* how many of its group stand before it */
    size_t group_placed_count; /* of a group's first: how many of the group are placed */
};

struct ordering {
    struct thinking *thinking;
    struct unplaced *layers; /* [count] */
    size_t count;
    size_t weighted; /* the first so many have weights */
    bool has_table;  /* there is an embedding */
    size_t symbols;
    size_t tried[KERAS_PARTS_MAX];
    size_t found[KERAS_PARTS_MAX];
    size_t found_count; /* orders that fit, to 2; `found` is the first */
    size_t steps;
};

/* ---- what there is ---- */

static void measure(const struct thinking *thinking, struct unplaced *layer)
{
    const struct keras_part *part = &layer->part;
    struct keras_tensors tensors;
    keras_find_tensors(thinking, part, part->is_bidirectional ? "forward" : NULL, &tensors);
    const struct foreign_tensor *scale =
        tensors.of[tensors.of[KERAS_ROLE_GAMMA] != NULL ? KERAS_ROLE_GAMMA : KERAS_ROLE_MEAN];
    layer->inputs = think_dimension(part->kind == KERAS_PART_NORMALIZATION ? scale : tensors.of[KERAS_ROLE_KERNEL], 0);
    layer->outputs = part->units == 0 ? layer->inputs : part->is_bidirectional ? 2 * part->units : part->units;
}

static bool has_weights(const struct keras_part *part)
{
    return part->kind != KERAS_PART_ACTIVATION && part->kind != KERAS_PART_MASKING;
}

/* The parts that compute something, those with weights first. */
static enum status collect(struct ordering *ordering, const struct keras_design *design)
{
    struct foreign_model *model = ordering->thinking->model;
    ordering->layers = arena_allocate(&model->arena, KERAS_PARTS_MAX, sizeof *ordering->layers);
    if (ordering->layers == NULL) {
        return foreign_no_memory(model, ordering->thinking->error);
    }
    for (int round = 0; round < 2; round++) {
        for (size_t i = 1; i < design->count; i++) {
            const struct keras_part *part = &design->parts[i];
            if (part->kind != KERAS_PART_SAME && has_weights(part) == (round == 0)) {
                struct unplaced *layer = &ordering->layers[ordering->count++];
                *layer = (struct unplaced){.part = *part};
                measure(ordering->thinking, layer);
            }
        }
        ordering->weighted = round == 0 ? ordering->count : ordering->weighted;
    }
    return STATUS_OK;
}

/* ---- the orders that fit ---- */

static bool are_counted(const struct keras_part *one, const struct keras_part *other)
{
    size_t length = keras_base_length(one->name);
    return length == keras_base_length(other->name) && memcmp(one->name, other->name, length) == 0;
}

/* Notes what names say of the order. */
static void group_layers(struct ordering *ordering)
{
    for (size_t i = 0; i < ordering->weighted; i++) {
        struct unplaced *layer = &ordering->layers[i];
        layer->group_first = ordering->weighted;
        for (size_t j = 0; j < ordering->weighted; j++) {
            const struct keras_part *other = &ordering->layers[j].part;
            if (are_counted(other, &layer->part)) {
                layer->group_first = layer->group_first < j ? layer->group_first : j;
                layer->group_before_count += compare_natural(other->name, layer->part.name) < 0 ? 1 : 0;
            }
        }
        ordering->has_table = ordering->has_table || layer->part.kind == KERAS_PART_EMBEDDING;
    }
}

/* Whether a layer may stand at a place, `width` being what the one before it gives. */
static bool may_follow(const struct ordering *ordering, const struct unplaced *layer, size_t place, size_t width)
{
    bool is_table = layer->part.kind == KERAS_PART_EMBEDDING;
    bool fits = place == 0 ? is_table || !ordering->has_table : !is_table && layer->inputs == width;
    return fits && !layer->is_placed &&
           ordering->layers[layer->group_first].group_placed_count >= layer->group_before_count;
}

static void set_placed(struct ordering *ordering, struct unplaced *layer, bool is_placed)
{
    size_t *count = &ordering->layers[layer->group_first].group_placed_count;
    layer->is_placed = is_placed;
    *count = is_placed ? *count + 1 : *count - 1;
}

/* Tries every layer at a place, and all behind it; no deeper than there are layers. */
static void place_rest(struct ordering *ordering, size_t place, size_t width) /* NOLINT(misc-no-recursion) */
{
    bool is_end = place > 0 && place == ordering->weighted;
    bool ends_well = is_end && ordering->layers[ordering->tried[place - 1]].part.kind == KERAS_PART_DENSE;
    if (ends_well && width == ordering->symbols) {
        if (ordering->found_count == 0) {
            memcpy(ordering->found, ordering->tried, sizeof ordering->found);
        }
        ordering->found_count++;
    }
    for (size_t i = 0; i < ordering->weighted && ordering->found_count < 2; i++) {
        struct unplaced *layer = &ordering->layers[i];
        if (!may_follow(ordering, layer, place, width)) {
            continue;
        }
        if (++ordering->steps > STEPS_MAX) {
            ordering->found_count = 2; /* so many that nothing is told */
            return;
        }
        ordering->symbols = place == 0 ? layer->inputs : ordering->symbols;
        ordering->tried[place] = i;
        set_placed(ordering, layer, true);
        place_rest(ordering, place + 1, layer->outputs);
        set_placed(ordering, layer, false);
    }
}

/* ---- asking ---- */

/* A list of names as far as it goes: "lstm,dense,activation". */
static void add_name(char text[NAMES_BYTES_MAX], const struct keras_part *part)
{
    size_t length = strlen(text);
    snprintf(text + length, NAMES_BYTES_MAX - length, "%s%.100s", length == 0 ? "" : ",", part->name);
}

static enum status ask_order(const struct ordering *ordering, const char *what)
{
    char names[NAMES_BYTES_MAX] = "";
    char how[NAMES_BYTES_MAX + 100];
    for (size_t i = 0; i < ordering->count; i++) {
        bool is_found = ordering->found_count == 1 && i < ordering->weighted;
        add_name(names, &ordering->layers[is_found ? ordering->found[i] : i].part);
    }
    snprintf(how, sizeof how, "layers=A,B,… with all of %s as they stand from the input to the output", names);
    return keras_ask(ordering->thinking, what, how);
}

/* ---- the order that was set ---- */

static enum status bad_order(const struct ordering *ordering, const char *name, size_t length, const char *what)
{
    return error_set(ordering->thinking->error, STATUS_INVALID, "layers: '%.*s' %s", length > 100 ? 100 : (int)length,
                     name, what);
}

static struct unplaced *find_unplaced(const struct ordering *ordering, const char *name, size_t length)
{
    for (size_t i = 0; i < ordering->count; i++) {
        const char *own = ordering->layers[i].part.name;
        if (!ordering->layers[i].is_placed && strlen(own) == length && memcmp(own, name, length) == 0) {
            return &ordering->layers[i];
        }
    }
    return NULL;
}

/* Places the layers as "lstm,dense,activation" says. */
static enum status take_order(struct ordering *ordering, const char *set, struct keras_design *design)
{
    design->count = 1;
    const char *name = set;
    while (name != NULL) {
        size_t length = strcspn(name, ",");
        struct unplaced *layer = find_unplaced(ordering, name, length);
        if (layer == NULL) {
            return bad_order(ordering, name, length, "is no layer that it has, or was named before");
        }
        layer->is_placed = true;
        design->parts[design->count++] = layer->part;
        name = name[length] == ',' ? name + length + 1 : NULL;
    }
    for (size_t i = 0; i < ordering->count; i++) {
        if (!ordering->layers[i].is_placed) {
            name = ordering->layers[i].part.name;
            return bad_order(ordering, name, strlen(name), "is not among them");
        }
    }
    return think_note(ordering->thinking, "order", set, "it was set");
}

/* ---- all of it ---- */

/* Places masks, then what was found, then a softmax, which has its place by what it is. */
static enum status take_found(const struct ordering *ordering, struct keras_design *design)
{
    char names[NAMES_BYTES_MAX] = "";
    design->count = 1;
    for (size_t i = ordering->weighted; i < ordering->count; i++) {
        if (ordering->layers[i].part.kind == KERAS_PART_MASKING) {
            design->parts[design->count++] = ordering->layers[i].part;
        }
    }
    for (size_t i = 0; i < ordering->weighted; i++) {
        design->parts[design->count++] = ordering->layers[ordering->found[i]].part;
    }
    for (size_t i = ordering->weighted; i < ordering->count; i++) {
        if (ordering->layers[i].part.kind != KERAS_PART_MASKING) {
            design->parts[design->count++] = ordering->layers[i].part;
        }
    }
    for (size_t i = 1; i < design->count; i++) {
        add_name(names, &design->parts[i]);
    }
    return think_note(ordering->thinking, "order", names, "the one that fits the names' numbers and the shapes");
}

enum status keras_order_parts(struct thinking *thinking, struct keras_design *design)
{
    struct ordering ordering = {.thinking = thinking};
    const char *set = think_setting(thinking, "layers");
    char what[200];
    TRY(collect(&ordering, design));
    if (set != NULL) {
        return take_order(&ordering, set, design);
    }
    group_layers(&ordering);
    place_rest(&ordering, 0, 0);
    if (ordering.found_count != 1) {
        return ask_order(&ordering, ordering.found_count == 0
                                        ? "the order of its layers, whose shapes fit in none one behind the other"
                                        : "the order of its layers");
    }
    for (size_t i = ordering.weighted; i < ordering.count; i++) {
        const struct keras_part *part = &ordering.layers[i].part;
        if (part->kind == KERAS_PART_ACTIVATION && strcmp(part->class, "Softmax") != 0) {
            snprintf(what, sizeof what, "where its layer %.100s stands", part->name);
            return ask_order(&ordering, what);
        }
    }
    return take_found(&ordering, design);
}
