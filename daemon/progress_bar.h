/* Progress of long work on a terminal: one line drawn over and over, lines that stay above it. Thread: main. */
#ifndef DAEMON_PROGRESS_BAR_H
#define DAEMON_PROGRESS_BAR_H

#include <stdbool.h>
#include <stdio.h>

enum { PROGRESS_BAR_TEXT_BYTES_MAX = 512 };

/* Starts as all zeroes but `file`. */
struct progress_bar {
    FILE *file;
    bool is_drawn;
};

/* Whether a bar can be drawn there. */
bool progress_bar_is_possible(FILE *file);

/* Draws the bar, `fraction` (0 to 1) of it full, and `text` behind it, cut to the terminal's width. */
void progress_bar_draw(struct progress_bar *bar, double fraction, const char *text);

/* Replaces the bar by `line`, which stays; the next draw goes below it. */
void progress_bar_print(struct progress_bar *bar, const char *line);

/* Takes the bar away. */
void progress_bar_clear(struct progress_bar *bar);

/* "3:07 h", "4:12 min", "9 s"; "" for NaN. */
enum { PROGRESS_BAR_TIME_BYTES_MAX = 32 };
const char *progress_bar_time(double seconds, char text[PROGRESS_BAR_TIME_BYTES_MAX]);

#endif
