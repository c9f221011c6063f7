/* Reading a pattern into its syntax tree. Thread: one at a time. Owns nothing. */
#include <ctype.h>
#include <stdio.h>

#include "engine/base/mem.h"
#include "engine/text/pattern_private.h"
#include "engine/text/utf8.h"

struct parser {
    const char *text;
    size_t length;
    size_t at;
    size_t depth; /* of groups */
    struct syntax *syntax;
    struct error *error;
};

/* ---- What is refused */

enum status pattern_refuse(struct error *error, const char *code)
{
    error_code(error, code);
    if (error != NULL) {
        snprintf(error->param, sizeof error->param, "pattern");
    }
    return STATUS_INVALID;
}

enum status pattern_refuse_size(struct error *error, const char *what, size_t maximum)
{
    error_set(error, STATUS_INVALID, "the pattern is too large: more than %zu %s", maximum, what);
    return pattern_refuse(error, "pattern_too_large");
}

static enum status refuse(const struct parser *parser, size_t at, const char *what)
{
    error_set(parser->error, STATUS_INVALID, "pattern: %s at character %zu", what, utf8_count(parser->text, at));
    return pattern_refuse(parser->error, "pattern_malformed");
}

static enum status refuse_construct(const struct parser *parser, size_t at, const char *name)
{
    error_set(parser->error, STATUS_INVALID, "pattern: %s at character %zu is not supported", name,
              utf8_count(parser->text, at));
    return pattern_refuse(parser->error, "pattern_unsupported");
}

static enum status refuse_memory(const struct parser *parser)
{
    return error_set(parser->error, STATUS_NO_MEMORY, "no memory for a pattern of %zu bytes", parser->length);
}

/* ---- Characters */

static bool is_at(const struct parser *parser, char wanted)
{
    return parser->at < parser->length && parser->text[parser->at] == wanted;
}

static bool take(struct parser *parser, char wanted)
{
    bool is_there = is_at(parser, wanted);
    parser->at += is_there;
    return is_there;
}

/* What a letter behind a backslash would be elsewhere. */
static const char *name_escape(char letter)
{
    static const struct {
        const char *letters;
        const char *name;
    } names[] = {
        {"123456789kg", "a backreference"}, {"0", "an octal escape"}, {"bB", "a word boundary"}, {"AZzG", "an anchor"},
        {"pP", "a Unicode property"},       {"QE", "a quoted text"},
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (letter != '\0' && strchr(names[i].letters, letter) != NULL) {
            return names[i].name;
        }
    }
    return "an unknown escape";
}

static enum status parse_hexadecimal(struct parser *parser, size_t begin, size_t digit_count, uint32_t *ret_character)
{
    uint32_t value = 0;
    for (size_t i = 0; i < digit_count; i++, parser->at++) {
        char digit = parser->at < parser->length ? parser->text[parser->at] : '\0';
        if (!isxdigit((unsigned char)digit)) {
            return refuse(parser, begin,
                          digit_count == 2 ? "\\x without two hexadecimal digits"
                                           : "\\u without four hexadecimal digits");
        }
        value = 16 * value + (uint32_t)(digit <= '9' ? digit - '0' : (digit | 0x20) - 'a' + 10);
    }
    if (value >= 0xD800 && value <= 0xDFFF) {
        return refuse(parser, begin, "half of a surrogate pair");
    }
    *ret_character = value;
    return STATUS_OK;
}

/* Behind the backslash: a character, or a class such as \d, whose ranges are added. */
static enum status parse_escape(struct parser *parser, uint32_t *ret_character, bool *ret_is_class)
{
    size_t begin = parser->at - 1;
    static const char letters[] = "ntrfv", meant[] = "\n\t\r\f\v";
    if (parser->at == parser->length) {
        return refuse(parser, begin, "a backslash with nothing behind it");
    }
    char letter = parser->text[parser->at++];
    const char *control = letter == '\0' ? NULL : strchr(letters, letter);
    char lower = (char)(letter | 0x20);
    *ret_is_class = letter != '\0' && strchr("dwsDWS", letter) != NULL;
    if (*ret_is_class) {
        size_t range_begin = parser->syntax->range_count;
        bool is_made = pattern_class_add_named(parser->syntax, lower) &&
                       (letter == lower || pattern_class_complement(parser->syntax, range_begin));
        return is_made ? STATUS_OK : refuse_memory(parser);
    }
    if (control != NULL) {
        *ret_character = (uint32_t)meant[control - letters];
    } else if (letter == 'x' || letter == 'u') {
        return parse_hexadecimal(parser, begin, letter == 'x' ? 2 : 4, ret_character);
    } else if (letter == ' ' || ((unsigned char)letter < 0x80 && ispunct((unsigned char)letter))) {
        *ret_character = (uint32_t)letter;
    } else {
        return refuse_construct(parser, begin, name_escape(letter));
    }
    return STATUS_OK;
}

/* The next character as it stands. */
static enum status parse_character(struct parser *parser, uint32_t *ret_character)
{
    size_t length = utf8_decode(parser->text + parser->at, parser->length - parser->at, ret_character);
    if (length == 0) {
        return refuse(parser, parser->at, "malformed UTF-8");
    }
    parser->at += length;
    return STATUS_OK;
}

/* ---- The tree */

static enum status add_node(struct parser *parser, struct syntax_node node, uint32_t *ret_node)
{
    struct syntax *syntax = parser->syntax;
    if (syntax->node_count == syntax->node_room) {
        size_t room = 2 * syntax->node_room + 16;
        struct syntax_node *nodes = mem_reallocate(syntax->nodes, room, sizeof *nodes);
        if (nodes == NULL) {
            return refuse_memory(parser);
        }
        syntax->nodes = nodes;
        syntax->node_room = room;
    }
    syntax->nodes[syntax->node_count] = node;
    *ret_node = (uint32_t)syntax->node_count++;
    return STATUS_OK;
}

/* A node of the ranges from `begin` on. */
static enum status add_class(struct parser *parser, size_t begin, uint32_t *ret_node)
{
    pattern_class_tidy(parser->syntax, begin);
    struct syntax_node node = {
        .kind = SYNTAX_CLASS, .range_begin = begin, .range_count = parser->syntax->range_count - begin};
    return add_node(parser, node, ret_node);
}

/* A character of a class, or a class in it (already added). */
static enum status parse_class_member(struct parser *parser, uint32_t *ret_character, bool *ret_is_class)
{
    *ret_is_class = false;
    if (take(parser, '\\')) {
        return parse_escape(parser, ret_character, ret_is_class);
    }
    char second = parser->at + 1 < parser->length ? parser->text[parser->at + 1] : ']';
    if (is_at(parser, '[') && (second == ':' || second == '.' || second == '=')) {
        return refuse_construct(parser, parser->at, "a POSIX class");
    }
    return parse_character(parser, ret_character);
}

/* Behind the '['. */
static enum status parse_class(struct parser *parser, uint32_t *ret_node)
{
    struct syntax *syntax = parser->syntax;
    size_t opened = parser->at - 1, begin = syntax->range_count;
    bool is_negated = take(parser, '^');
    if (is_at(parser, ']')) {
        return refuse(parser, opened, "an empty class (a ']' in a class is written \\])");
    }
    while (!take(parser, ']')) {
        uint32_t first = 0, last;
        bool is_class, is_last_class = false;
        if (parser->at == parser->length) {
            return refuse(parser, opened, "a class that does not end");
        }
        size_t member = parser->at;
        TRY(parse_class_member(parser, &first, &is_class));
        bool is_range = is_at(parser, '-') && parser->at + 1 < parser->length && parser->text[parser->at + 1] != ']';
        if (is_class && !is_range) {
            continue;
        }
        last = first;
        if (is_range) {
            parser->at++;
            TRY(parse_class_member(parser, &last, &is_last_class));
        }
        if (is_range && (is_class || is_last_class || last < first)) {
            return refuse(parser, member, "a range that ends before it begins, or at a class,");
        }
        if (!pattern_class_add(syntax, first, last)) {
            return refuse_memory(parser);
        }
    }
    if (is_negated && !pattern_class_complement(syntax, begin)) {
        return refuse_memory(parser);
    }
    return syntax->range_count == begin ? refuse(parser, opened, "a class without any character")
                                        : add_class(parser, begin, ret_node);
}

static enum status parse_alternatives(struct parser *parser, uint32_t *ret_node);

/* Behind the '('. */
static enum status parse_group(struct parser *parser, uint32_t *ret_node)
{
    static const struct {
        const char *sign; /* behind "(?" */
        const char *name;
    } names[] = {
        {"=", "a look-ahead"},     {"!", "a negative look-ahead"},
        {"<=", "a look-behind"},   {"<!", "a negative look-behind"},
        {"P<", "a named group"},   {"<", "a named group"},
        {"P=", "a backreference"}, {"P>", "a subroutine call"},
        {"#", "a comment"},        {">", "an atomic group"},
        {"(", "a conditional"},    {"|", "a branch reset"},
    };
    size_t opened = parser->at - 1;
    if (take(parser, '?') && !take(parser, ':')) {
        for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
            size_t length = strlen(names[i].sign);
            if (parser->length - parser->at >= length &&
                memcmp(parser->text + parser->at, names[i].sign, length) == 0) {
                return refuse_construct(parser, opened, names[i].name);
            }
        }
        return refuse_construct(parser, opened, "an inline flag");
    }
    if (parser->depth == PATTERN_DEPTH_MAX) {
        return pattern_refuse_size(parser->error, "groups in groups", PATTERN_DEPTH_MAX);
    }
    parser->depth++;
    TRY(parse_alternatives(parser, ret_node));
    parser->depth--;
    return take(parser, ')') ? STATUS_OK : refuse(parser, opened, "a group that does not end");
}

/* One class, group or character. */
static enum status parse_atom(struct parser *parser, uint32_t *ret_node)
{
    size_t begin = parser->syntax->range_count;
    uint32_t character = 0;
    bool is_class = false, is_made = true;
    if (take(parser, '(')) {
        return parse_group(parser, ret_node);
    }
    if (take(parser, '[')) {
        return parse_class(parser, ret_node);
    }
    if (take(parser, '.')) {
        is_class = true;
        is_made = pattern_class_add(parser->syntax, '\n', '\n') && pattern_class_complement(parser->syntax, begin);
    } else if (take(parser, '\\')) {
        TRY(parse_escape(parser, &character, &is_class));
    } else {
        TRY(parse_character(parser, &character));
    }
    is_made = is_made && (is_class || pattern_class_add(parser->syntax, character, character));
    return is_made ? add_class(parser, begin, ret_node) : refuse_memory(parser);
}

/* A number of {m,n}; SYNTAX_UNBOUNDED where none stands. */
static enum status parse_count(struct parser *parser, uint32_t *ret_count)
{
    size_t begin = parser->at;
    uint32_t count = 0;
    for (; parser->at < parser->length && isdigit((unsigned char)parser->text[parser->at]); parser->at++) {
        count = 10 * count + (uint32_t)(parser->text[parser->at] - '0');
        if (count > PATTERN_REPEATS_MAX) {
            return pattern_refuse_size(parser->error, "repetitions in a {}", PATTERN_REPEATS_MAX);
        }
    }
    *ret_count = parser->at == begin ? SYNTAX_UNBOUNDED : count;
    return STATUS_OK;
}

/* How often what stands before is repeated; `ret_max` 0 with `ret_min` 1 where nothing says so. */
static enum status parse_quantifier(struct parser *parser, uint32_t *ret_min, uint32_t *ret_max)
{
    size_t begin = parser->at;
    *ret_min = 0;
    *ret_max = SYNTAX_UNBOUNDED;
    if (take(parser, '*')) {
        return STATUS_OK;
    }
    if (take(parser, '+')) {
        *ret_min = 1;
        return STATUS_OK;
    }
    if (take(parser, '?')) {
        *ret_max = 1;
        return STATUS_OK;
    }
    if (!take(parser, '{')) {
        *ret_min = 1;
        *ret_max = 0;
        return STATUS_OK;
    }
    TRY(parse_count(parser, ret_min));
    *ret_max = *ret_min;
    if (take(parser, ',')) {
        TRY(parse_count(parser, ret_max));
    }
    if (*ret_min == SYNTAX_UNBOUNDED || *ret_max < *ret_min || !take(parser, '}')) {
        return refuse(parser, begin, "a '{' that begins no {m}, {m,} or {m,n} (a bare one is written \\{)");
    }
    return STATUS_OK;
}

static enum status parse_repeated(struct parser *parser, uint32_t *ret_node)
{
    uint32_t child, min, max;
    TRY(parse_atom(parser, &child));
    TRY(parse_quantifier(parser, &min, &max));
    if (min == 1 && max == 0) {
        *ret_node = child;
        return STATUS_OK;
    }
    if (!take(parser, '?') && is_at(parser, '+')) {
        return refuse_construct(parser, parser->at, "a possessive quantifier");
    }
    return add_node(parser, (struct syntax_node){.kind = SYNTAX_REPEAT, .child = child, .min = min, .max = max},
                    ret_node);
}

/* '^' and '$' at the ends of an alternative outside of groups; elsewhere they are refused. */
static enum status parse_anchor(struct parser *parser, bool is_first)
{
    size_t begin = parser->at;
    bool is_start = take(parser, '^');
    parser->at += !is_start;
    bool is_end = parser->at == parser->length || is_at(parser, '|');
    bool is_at_its_end = parser->depth == 0 && (is_start ? is_first : is_end);
    return is_at_its_end ? STATUS_OK : refuse_construct(parser, begin, "an anchor inside of the pattern");
}

static enum status parse_sequence(struct parser *parser, uint32_t *ret_node)
{
    struct syntax_node sequence = {.kind = SYNTAX_SEQUENCE};
    while (parser->at < parser->length && !is_at(parser, '|') && !is_at(parser, ')')) {
        char sign = parser->text[parser->at];
        if (sign == '^' || sign == '$') {
            TRY(parse_anchor(parser, sequence.child == 0));
            continue;
        }
        if (sign != '\0' && strchr("*+?{", sign) != NULL) {
            return refuse(parser, parser->at, "a quantifier with nothing to repeat");
        }
        uint32_t child;
        TRY(parse_repeated(parser, &child));
        parser->syntax->nodes[child].before = sequence.child;
        sequence.child = child;
    }
    return add_node(parser, sequence, ret_node);
}

static enum status parse_alternatives(struct parser *parser, uint32_t *ret_node)
{
    struct syntax_node alternatives = {.kind = SYNTAX_ALTERNATIVES};
    do {
        uint32_t child;
        TRY(parse_sequence(parser, &child));
        parser->syntax->nodes[child].before = alternatives.child;
        alternatives.child = child;
    } while (take(parser, '|'));
    return add_node(parser, alternatives, ret_node);
}

enum status pattern_parse(const char *text, size_t length, struct syntax *ret_syntax, struct error *error)
{
    if (length > PATTERN_BYTES_MAX) {
        return pattern_refuse_size(error, "bytes", PATTERN_BYTES_MAX);
    }
    struct syntax syntax = {.root = 0};
    struct parser parser = {.text = text, .length = length, .syntax = &syntax, .error = error};
    uint32_t none;
    enum status status = add_node(&parser, (struct syntax_node){.kind = SYNTAX_SEQUENCE}, &none);
    if (status == STATUS_OK) {
        status = parse_alternatives(&parser, &syntax.root);
    }
    if (status == STATUS_OK && parser.at < length) {
        status = refuse(&parser, parser.at, "a ')' that closes nothing");
    }
    if (status != STATUS_OK) {
        pattern_syntax_release(&syntax);
        return status;
    }
    *ret_syntax = syntax;
    return STATUS_OK;
}

void pattern_syntax_release(struct syntax *syntax)
{
    mem_free(syntax->nodes);
    mem_free(syntax->ranges);
    *syntax = (struct syntax){.root = 0};
}
