/* A list of places, the first one inside. Thread: loop. */
#include "daemon/turns.h"

#include "engine/base/check.h"

void turns_add(struct turns *turns, struct turn *turn)
{
    struct turn **link = &turns->first;
    while (*link != NULL) {
        link = &(*link)->next;
    }
    *link = turn;
    turn->next = NULL;
    turn->is_inside = turns->first == turn;
    turns->count++;
}

void turns_remove(struct turns *turns, struct turn *turn)
{
    struct turn **link = &turns->first;
    while (*link != turn) {
        CHECK(*link != NULL);
        link = &(*link)->next;
    }
    *link = turn->next;
    turn->is_inside = false;
    turns->count--;
}

bool turns_let_in(struct turns *turns)
{
    struct turn *next = turns->first;
    if (next != NULL) {
        next->is_inside = true;
        next->granted(next);
    }
    return next != NULL;
}
