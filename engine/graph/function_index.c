/* getitem: Python's x[1:, ..., ::-1, None, 3], with the index as text. Thread: the building one. Source: TensorFlow
 * 1.15, ops/array_ops.py, _slice_helper. */
#include "engine/graph/function_private.h"

enum { INDEX_ENTRIES_MAX = 2 * SHAPE_RANK_MAX };

/* The index as StridedSlice takes it. */
struct index {
    size_t count;
    int64_t begin[INDEX_ENTRIES_MAX];
    int64_t end[INDEX_ENTRIES_MAX];
    int64_t strides[INDEX_ENTRIES_MAX];
    int64_t begin_mask;
    int64_t end_mask;
    int64_t ellipsis_mask;
    int64_t new_axis_mask;
    int64_t shrink_axis_mask;
};

static const char *skip_spaces(const char *text)
{
    return text + strspn(text, " ");
}

/* Takes `word` from the text when it stands there. */
static bool take_word(const char **text, const char *word)
{
    size_t length = strlen(word);
    if (strncmp(*text, word, length) != 0) {
        return false;
    }
    *text = skip_spaces(*text + length);
    return true;
}

/* Takes a whole number of at most ten digits. */
static bool take_integer(const char **text, int64_t *ret_integer)
{
    const char *at = *text;
    bool is_negative = *at == '-';
    at += is_negative;
    size_t digits = strspn(at, "0123456789");
    if (digits == 0 || digits > 10) {
        return false;
    }
    int64_t integer = 0;
    for (size_t i = 0; i < digits; i++) {
        integer = 10 * integer + (at[i] - '0');
    }
    if (integer > INT32_MAX - 1) {
        return false;
    }
    *ret_integer = is_negative ? -integer : integer;
    *text = skip_spaces(at + digits);
    return true;
}

/* One entry: "...", "None", "3", "begin:end:stride" with parts left out. */
static bool take_entry(const char **text, struct index *index)
{
    size_t at = index->count++;
    int64_t bit = (int64_t)1 << at;
    index->strides[at] = 1;
    if (take_word(text, "...")) {
        index->ellipsis_mask |= bit;
        return true;
    }
    if (take_word(text, "None") || take_word(text, "tf.newaxis") || take_word(text, "newaxis")) {
        index->new_axis_mask |= bit;
        return true;
    }
    bool has_begin = take_integer(text, &index->begin[at]);
    if (!take_word(text, ":")) {
        index->end[at] = index->begin[at] + 1;
        index->shrink_axis_mask |= bit;
        return has_begin;
    }
    index->begin_mask |= has_begin ? 0 : bit;
    index->end_mask |= take_integer(text, &index->end[at]) ? 0 : bit;
    if (take_word(text, ":")) {
        (void)take_integer(text, &index->strides[at]); /* "::" is a stride of 1 */
    }
    return true;
}

static enum status parse_index(const char *text, struct index *ret_index, struct error *error)
{
    const char *at = skip_spaces(text);
    *ret_index = (struct index){.count = 0};
    while (*at != '\0') {
        if (ret_index->count == INDEX_ENTRIES_MAX) {
            return error_raise(error, STATUS_TOO_LARGE, EXCEPTION_VALUE, "index [%.100s] has more than %d entries",
                               text, INDEX_ENTRIES_MAX);
        }
        if (!take_entry(&at, ret_index) || (*at != '\0' && !take_word(&at, ","))) {
            return error_raise(error, STATUS_INVALID, EXCEPTION_TYPE,
                               "index [%.100s] is wrong at character %zu; there may be whole numbers, "
                               "begin:end:stride, ... and None, separated by commas",
                               text, (size_t)(at - text) + 1);
        }
    }
    return STATUS_OK;
}

static enum status build_getitem(struct graph *graph, const struct function_call *call, struct call_result *result,
                                 struct error *error)
{
    struct index index;
    struct output inputs[4] = {call->inputs[0], {NULL, 0}, {NULL, 0}, {NULL, 0}};
    TRY(parse_index(function_attribute(call, "index")->text, &index, error));
    TRY(graph_add_integers(graph, "stack", index.begin, index.count, &inputs[1], error));
    TRY(graph_add_integers(graph, "stack_1", index.end, index.count, &inputs[2], error));
    TRY(graph_add_integers(graph, "stack_2", index.strides, index.count, &inputs[3], error));
    struct attribute masks[] = {
        {.name = "begin_mask", .kind = ATTRIBUTE_INTEGER, .integer = index.begin_mask},
        {.name = "end_mask", .kind = ATTRIBUTE_INTEGER, .integer = index.end_mask},
        {.name = "ellipsis_mask", .kind = ATTRIBUTE_INTEGER, .integer = index.ellipsis_mask},
        {.name = "new_axis_mask", .kind = ATTRIBUTE_INTEGER, .integer = index.new_axis_mask},
        {.name = "shrink_axis_mask", .kind = ATTRIBUTE_INTEGER, .integer = index.shrink_axis_mask},
    };
    return function_finish(graph, call, "StridedSlice", inputs, 4, masks, 5, result, error);
}

static const struct attribute_rule index_attributes[] = {
    {.name = "index", .kind = ATTRIBUTE_TEXT, .is_required = true},
    {.name = NULL},
};

const struct function function_getitem = {.name = "getitem",
                                          .default_name = "strided_slice",
                                          .arguments = "tensor",
                                          .argument_types = "T",
                                          .attributes = index_attributes,
                                          .build = build_getitem};
