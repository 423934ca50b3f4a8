/* BLAKE2b with a digest of 16 bytes and no key, as RFC 7693 has it. */
#ifndef LIFECYCLE_BLAKE2B_H
#define LIFECYCLE_BLAKE2B_H

#include <stddef.h>
#include <stdint.h>

#define DIGEST_BYTES 16
#define BLAKE2B_BLOCK_BYTES 128

struct blake2b {
    uint64_t chain[8];
    /* Bytes compressed so far; 2^64 of them are more than any memory holds. */
    uint64_t count;
    uint8_t block[BLAKE2B_BLOCK_BYTES];
    size_t filled;
};

void blake2b_begin(struct blake2b *state);
void blake2b_add(struct blake2b *state, const void *data, size_t bytes);
void blake2b_end(struct blake2b *state, uint8_t digest[DIGEST_BYTES]);

#endif
