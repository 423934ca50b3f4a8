#include "blake2b.h"

#include <stdbool.h>
#include <string.h>

/* RFC 7693, 2.6: the first 64 bits of the fractional parts of the roots of the first primes. */
static const uint64_t START[8] = {
    UINT64_C(0x6a09e667f3bcc908), UINT64_C(0xbb67ae8584caa73b),
    UINT64_C(0x3c6ef372fe94f82b), UINT64_C(0xa54ff53a5f1d36f1),
    UINT64_C(0x510e527fade682d1), UINT64_C(0x9b05688c2b3e6c1f),
    UINT64_C(0x1f83d9abfb41bd6b), UINT64_C(0x5be0cd19137e2179),
};

/* RFC 7693, 2.7: which word of the message goes where, round by round; the last two are the first
   two again. */
static const uint8_t ORDER[12][16] = {
    {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15},
    {14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3},
    {11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4},
    {7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8},
    {9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13},
    {2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9},
    {12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11},
    {13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10},
    {6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5},
    {10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0},
    {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15},
    {14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3},
};

static inline uint64_t rotated(uint64_t word, unsigned bits)
{
    return word >> bits | word << (64 - bits);
}

static inline uint64_t word_at(const uint8_t *place)
{
    uint64_t word;

    memcpy(&word, place, sizeof word);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    word = __builtin_bswap64(word);
#endif
    return word;
}

#define MIX(a, b, c, d, x, y)                \
    do {                                     \
        v[a] += v[b] + (x);                  \
        v[d] = rotated(v[d] ^ v[a], 32);     \
        v[c] += v[d];                        \
        v[b] = rotated(v[b] ^ v[c], 24);     \
        v[a] += v[b] + (y);                  \
        v[d] = rotated(v[d] ^ v[a], 16);     \
        v[c] += v[d];                        \
        v[b] = rotated(v[b] ^ v[c], 63);     \
    } while (0)

static void compress(struct blake2b *state, const uint8_t *block, bool last)
{
    uint64_t m[16], v[16];

    for (int i = 0; i < 16; i++)
        m[i] = word_at(block + 8 * i);
    for (int i = 0; i < 8; i++) {
        v[i] = state->chain[i];
        v[i + 8] = START[i];
    }
    v[12] ^= state->count;
    if (last)
        v[14] = ~v[14];
    for (int round = 0; round < 12; round++) {
        const uint8_t *s = ORDER[round];

        MIX(0, 4, 8, 12, m[s[0]], m[s[1]]);
        MIX(1, 5, 9, 13, m[s[2]], m[s[3]]);
        MIX(2, 6, 10, 14, m[s[4]], m[s[5]]);
        MIX(3, 7, 11, 15, m[s[6]], m[s[7]]);
        MIX(0, 5, 10, 15, m[s[8]], m[s[9]]);
        MIX(1, 6, 11, 12, m[s[10]], m[s[11]]);
        MIX(2, 7, 8, 13, m[s[12]], m[s[13]]);
        MIX(3, 4, 9, 14, m[s[14]], m[s[15]]);
    }
    for (int i = 0; i < 8; i++)
        state->chain[i] ^= v[i] ^ v[i + 8];
}

void blake2b_begin(struct blake2b *state)
{
    memcpy(state->chain, START, sizeof START);
    /* The block of parameters: digest of 16 bytes, no key, fanout and depth one. */
    state->chain[0] ^= UINT64_C(0x01010000) | DIGEST_BYTES;
    state->count = 0;
    state->filled = 0;
}

void blake2b_add(struct blake2b *state, const void *data, size_t bytes)
{
    const uint8_t *rest = data;

    if (bytes == 0)
        return;
    if (state->filled > 0) {
        size_t room = BLAKE2B_BLOCK_BYTES - state->filled;
        size_t part = bytes < room ? bytes : room;

        memcpy(state->block + state->filled, rest, part);
        state->filled += part;
        rest += part;
        bytes -= part;
        /* The last block is compressed in another way, so a full one waits for what follows. */
        if (bytes == 0)
            return;
        state->count += BLAKE2B_BLOCK_BYTES;
        compress(state, state->block, false);
        state->filled = 0;
    }
    for (; bytes > BLAKE2B_BLOCK_BYTES; bytes -= BLAKE2B_BLOCK_BYTES) {
        state->count += BLAKE2B_BLOCK_BYTES;
        compress(state, rest, false);
        rest += BLAKE2B_BLOCK_BYTES;
    }
    memcpy(state->block, rest, bytes);
    state->filled = bytes;
}

void blake2b_end(struct blake2b *state, uint8_t digest[DIGEST_BYTES])
{
    state->count += state->filled;
    memset(state->block + state->filled, 0, BLAKE2B_BLOCK_BYTES - state->filled);
    compress(state, state->block, true);
    for (int i = 0; i < DIGEST_BYTES; i++)
        digest[i] = (uint8_t)(state->chain[i / 8] >> 8 * (i % 8));
}
