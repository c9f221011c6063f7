/* Fuzz target: any bytes as a configuration file and as a key file. What is refused names the file. */
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

#include "daemon/keys.h"
#include "daemon/settings.h"
#include "engine/base/check.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    char path[64];
    struct settings settings;
    struct error error;
    int fd = memfd_create("lstmd.conf", MFD_CLOEXEC);
    CHECK(fd >= 0 && write(fd, bytes, length) == (ssize_t)length);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (settings_read(&settings, path, &error) == STATUS_OK) {
        CHECK(settings.versions_kept >= 1 && settings.versions_kept <= 1000);
        CHECK(settings.log_level <= 3);
        CHECK(memchr(settings.models, '\0', sizeof settings.models) != NULL);
    } else {
        CHECK(strncmp(error.message, path, strlen(path)) == 0);
    }
    struct keys *keys = NULL;
    if (keys_read(path, &keys, &error) == STATUS_OK) {
        CHECK(keys_count(keys) <= KEYS_MAX);
    } else {
        CHECK(strstr(error.message, path) != NULL);
    }
    keys_destroy(keys);
    close(fd);
    return 0;
}
