/* Drawing with carriage returns and "erase to the end of the line" (ECMA-48), which every terminal knows. */
#include "daemon/progress_bar.h"

#include <math.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { COLUMNS_DEFAULT = 80, BAR_COLUMNS = 16 };
static const char ERASE[] = "\r\033[K";

bool progress_bar_is_possible(FILE *file)
{
    const char *terminal = getenv("TERM");
    return isatty(fileno(file)) == 1 && terminal != NULL && strcmp(terminal, "dumb") != 0;
}

static size_t columns(FILE *file)
{
    struct winsize size;
    return ioctl(fileno(file), TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : COLUMNS_DEFAULT;
}

/* Prints at most `width` characters. */
static void print_cut(FILE *file, const char *text, size_t width)
{
    for (const char *at = text; *at != '\0'; at++) {
        bool begins_character = ((unsigned char)*at & 0xc0) != 0x80;
        if (begins_character && width-- == 0) {
            return;
        }
        fputc(*at, file);
    }
}

void progress_bar_draw(struct progress_bar *bar, double fraction, const char *text)
{
    size_t width = columns(bar->file) - 1;
    char line[4 * BAR_COLUMNS + PROGRESS_BAR_TEXT_BYTES_MAX + 16] = "";
    size_t length = 0;
    double full = fraction * BAR_COLUMNS;
    for (int i = 0; i < BAR_COLUMNS && width > 2 * BAR_COLUMNS; i++) {
        const char *block = (double)i + 1 <= full ? "█" : (double)i < full ? "▌" : "░";
        length += (size_t)snprintf(line + length, sizeof line - length, "%s", block);
    }
    snprintf(line + length, sizeof line - length, " %3.0f %%  %.*s", floor(100 * fraction),
             PROGRESS_BAR_TEXT_BYTES_MAX - 1, text);
    fputs(ERASE, bar->file);
    print_cut(bar->file, line, width);
    fflush(bar->file);
    bar->is_drawn = true;
}

void progress_bar_print(struct progress_bar *bar, const char *line)
{
    progress_bar_clear(bar);
    fprintf(bar->file, "%s\n", line);
    fflush(bar->file);
}

void progress_bar_clear(struct progress_bar *bar)
{
    if (bar->is_drawn) {
        fputs(ERASE, bar->file);
        fflush(bar->file);
        bar->is_drawn = false;
    }
}

const char *progress_bar_time(double seconds, char text[PROGRESS_BAR_TIME_BYTES_MAX])
{
    if (!isfinite(seconds) || seconds < 0 || seconds > 1e9) {
        text[0] = '\0';
    } else if (seconds < 60) {
        snprintf(text, PROGRESS_BAR_TIME_BYTES_MAX, "%.0f s", ceil(seconds));
    } else {
        long whole = (long)seconds;
        bool has_hours = whole >= 3600;
        long small = has_hours ? whole / 60 % 60 : whole % 60;
        snprintf(text, PROGRESS_BAR_TIME_BYTES_MAX, "%ld:%02ld %s", has_hours ? whole / 3600 : whole / 60, small,
                 has_hours ? "h" : "min");
    }
    return text;
}
