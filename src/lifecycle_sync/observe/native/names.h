/* The names in one directory, collected in any order, then sorted as bytes. */
#ifndef LIFECYCLE_NAMES_H
#define LIFECYCLE_NAMES_H

#include <stddef.h>
#include <stdint.h>

/* Where a name starts, how long it is, and eight of its bytes as a number that sorts like them. */
struct name {
    uint64_t key;
    uint32_t start;
    uint32_t bytes;
};

struct names {
    char *text; /* one after the other, each with a NUL */
    size_t text_bytes, text_room;
    struct name *list;
    size_t count, room;
};

/* These return 0, or -ENOMEM, or -EOVERFLOW beyond 4 GiB of names. */
int names_add(struct names *names, const char *name, size_t bytes);
/* Sort, leave out what is there twice, and put the text in that order: then `list` is gone. */
int names_settle(struct names *names);
void names_free(struct names *names);

#endif
