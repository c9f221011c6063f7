/* CRC-32C (Castagnoli), as LevelDB and TensorFlow use it. Thread: any. Source: RFC 3720, appendix B.4. */
#ifndef ENGINE_IMPORT_CRC32C_H
#define ENGINE_IMPORT_CRC32C_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The checksum of `bytes`; `before` is that of what stands before them, 0 for nothing. */
uint32_t crc32c(uint32_t before, const void *bytes, size_t length);
/* How files hold it: rotated and offset, since the checksum of what contains checksums is weak. */
uint32_t crc32c_mask(uint32_t checksum);
/* Whether bytes have the checksum that a file holds, masked. Built for fuzzing they always have: else nothing that a
 * fuzzer changes would be looked at. */
bool crc32c_matches(const void *bytes, size_t length, uint32_t stored);

#endif
