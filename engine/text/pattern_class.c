/* Classes of characters as lists of ranges. Thread: one at a time. Owns nothing. */
#include <stdlib.h>

#include "engine/base/mem.h"
#include "engine/text/pattern_private.h"

enum { CODE_POINT_LAST = 0x10FFFF, SURROGATE_FIRST = 0xD800, SURROGATE_LAST = 0xDFFF };

bool pattern_class_add(struct syntax *syntax, uint32_t first, uint32_t last)
{
    if (syntax->range_count == syntax->range_room) {
        size_t room = 2 * syntax->range_room + 16;
        struct character_range *ranges = mem_reallocate(syntax->ranges, room, sizeof *ranges);
        if (ranges == NULL) {
            return false;
        }
        syntax->ranges = ranges;
        syntax->range_room = room;
    }
    syntax->ranges[syntax->range_count++] = (struct character_range){.first = first, .last = last};
    return true;
}

bool pattern_class_add_named(struct syntax *syntax, char letter)
{
    switch (letter) {
    case 'd': return pattern_class_add(syntax, '0', '9');
    case 's': return pattern_class_add(syntax, '\t', '\r') && pattern_class_add(syntax, ' ', ' ');
    default:
        return pattern_class_add(syntax, '0', '9') && pattern_class_add(syntax, 'A', 'Z') &&
               pattern_class_add(syntax, '_', '_') && pattern_class_add(syntax, 'a', 'z');
    }
}

static int compare_ranges(const void *a, const void *b)
{
    const struct character_range *left = a, *right = b;
    return (left->first > right->first) - (left->first < right->first);
}

void pattern_class_tidy(struct syntax *syntax, size_t begin)
{
    struct character_range *ranges = syntax->ranges + begin;
    size_t count = syntax->range_count - begin, kept = 0;
    if (count == 0) {
        return;
    }
    qsort(ranges, count, sizeof *ranges, compare_ranges);
    for (size_t i = 1; i < count; i++) {
        if (ranges[i].first > ranges[kept].last + 1) {
            ranges[++kept] = ranges[i];
        } else if (ranges[i].last > ranges[kept].last) {
            ranges[kept].last = ranges[i].last;
        }
    }
    syntax->range_count = begin + kept + 1;
}

bool pattern_class_complement(struct syntax *syntax, size_t begin)
{
    if (!pattern_class_add(syntax, SURROGATE_FIRST, SURROGATE_LAST) || /* no characters: in no class */
        !pattern_class_add(syntax, CODE_POINT_LAST + 1, CODE_POINT_LAST + 1)) {
        return false;
    }
    pattern_class_tidy(syntax, begin);
    struct character_range *ranges = syntax->ranges + begin;
    size_t count = syntax->range_count - begin, kept = 0;
    uint32_t first = 0;
    for (size_t i = 0; i < count; i++) { /* the gap before each, which is never further back in the list */
        struct character_range range = ranges[i];
        if (range.first > first) {
            ranges[kept++] = (struct character_range){.first = first, .last = range.first - 1};
        }
        first = range.last + 1;
    }
    syntax->range_count = begin + kept;
    return true;
}
