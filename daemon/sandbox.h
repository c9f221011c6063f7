/* A process shuts itself in before it reads a stranger's bytes: no files, no network, no new processes; only what is
 * open already can be read, and standard output and error written. Thread: the only one of its process. */
#ifndef DAEMON_SANDBOX_H
#define DAEMON_SANDBOX_H

#include <stdint.h>

#include "engine/base/status.h"

struct sandbox_limits {
    uint64_t memory_bytes;    /* address space beyond what the process has now */
    uint64_t cpu_seconds;     /* SIGXCPU ends it then */
    uint64_t elapsed_seconds; /* SIGALRM ends it then */
};

/* Whether memory is limited: not where a sanitizer's shadow takes terabytes of address space. */
bool sandbox_limits_memory(void);

/* Sets the limits, has the process end with its parent, and lets the kernel (seccomp) kill it at any other system call
 * than the few that computing, memory and reading need. There is no way back. UNSUPPORTED where the kernel cannot. */
enum status sandbox_enter(const struct sandbox_limits *limits, struct error *error) MUST_CHECK;

#endif
