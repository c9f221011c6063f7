/* Who uses a thing that takes one user at a time: one is inside, the others wait and come in the order in which they
 * arrived. Thread: loop, all of it. */
#ifndef DAEMON_TURNS_H
#define DAEMON_TURNS_H

#include <stdbool.h>
#include <stddef.h>

/* A place; its owner's, who sets `granted`. */
struct turn {
    struct turn *next; /* private */
    bool is_inside;
    void (*granted)(struct turn *turn); /* it is inside now; called after a wait only */
};

/* All places of a thing; zeroed by its owner. */
struct turns {
    struct turn *first; /* inside, but between turns_remove and turns_let_in */
    size_t count;
};

/* Adds a place behind the others; it is inside at once where it is alone. */
void turns_add(struct turns *turns, struct turn *turn);

/* Takes out a place, inside or waiting; it must be there. */
void turns_remove(struct turns *turns, struct turn *turn);

/* After the one inside was taken out: lets the next one in, which may change or free the thing. False: nobody waits. */
bool turns_let_in(struct turns *turns);

#endif
