/* Gives every file of the folders named on the command line once to the fuzz target it is linked with, and reports in
 * TAP: the committed corpora stay passed with any compiler, without libFuzzer. Thread: main only. Owns nothing between
 * files. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/check.h"
#include "engine/base/mem.h"

enum { INPUT_BYTES_MAX = 16 << 20, PATH_BYTES_MAX = 4096 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The input is copied to a block of exactly its size, so that a sanitizer sees the first byte read beyond it. */
static bool replay_file(const char *path)
{
    FILE *file = fopen(path, "rb");
    uint8_t *read_bytes = mem_allocate(INPUT_BYTES_MAX, 1);
    CHECK(file && read_bytes);
    size_t size = fread(read_bytes, 1, INPUT_BYTES_MAX, file);
    bool is_whole = size < INPUT_BYTES_MAX && !ferror(file);
    fclose(file);

    uint8_t *input = mem_allocate(size ? size : 1, 1);
    CHECK(input);
    memcpy(input, read_bytes, size);
    mem_free(read_bytes);
    LLVMFuzzerTestOneInput(input, size);
    mem_free(input);
    return is_whole;
}

/* A crash ends the process: the name before it says which file it was. */
static int replay_folder(const char *folder, int count)
{
    DIR *directory = opendir(folder);
    if (!directory) {
        return count;
    }
    for (struct dirent *entry = readdir(directory); entry; entry = readdir(directory)) {
        if (entry->d_name[0] == '.') {
            continue;
        }
        char path[PATH_BYTES_MAX];
        snprintf(path, sizeof(path), "%s/%s", folder, entry->d_name);
        printf("# %s\n", path);
        fflush(stdout);
        printf("%s %d - %s\n", replay_file(path) ? "ok" : "not ok", ++count, path);
    }
    closedir(directory);
    return count;
}

int main(int argc, char **argv)
{
    int count = 0;
    for (int i = 1; i < argc; i++) {
        count = replay_folder(argv[i], count);
    }
    printf("1..%d\n", count);
    return count > 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
