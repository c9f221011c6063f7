/* Force-included before every file: calls that overflow, hide errors or share hidden state do not compile.
 *
 * The standard headers that declare them are included first, so that only our own use is refused. Memory comes from
 * mem.h; mem.c alone (built with MAY_ALLOCATE) calls the allocator. */
#ifndef ENGINE_BASE_BANNED_H
#define ENGINE_BASE_BANNED_H

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#if defined(__x86_64__)
#include <mm_malloc.h> /* included by immintrin.h; its own inline functions call malloc */
#endif

#undef sprintf /* under _FORTIFY_SOURCE clang gets these as macros */
#undef vsprintf
#pragma GCC poison strcpy strcat strncpy strncat sprintf vsprintf gets strtok atoi atol atof rand srand
#pragma GCC poison gmtime localtime asctime
#ifndef MAY_NAME_CTIME /* members of libhdf5's structures are called so */
#pragma GCC poison ctime
#endif
#ifndef MAY_ALLOCATE
#pragma GCC poison malloc calloc realloc strdup strndup aligned_alloc posix_memalign
#endif

#endif
