/* What a walk asks of the world: the kernel itself, or a test's file operations in Python. */
#ifndef LIFECYCLE_SOURCE_H
#define LIFECYCLE_SOURCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "names.h"

/* Calls return 0 (or a descriptor), or what went wrong as a negative number: -errno, or these. */
enum {
    RAISED = -100000, /* an exception was raised in Python: the walk ends */
    STOPPED,          /* the walk was stopped meanwhile */
};

/* Names looked at between two questions whether to go on. */
#define BLOCK 8192

/* What the rules say of a name: bits. */
enum { IGNORED_FILE = 1, IGNORED_DIRECTORY = 2, IGNORED = 3 };

/* Times in nanoseconds, clamped to what 64 bits hold, as sizes are. */
struct facts {
    uint64_t inode, device;
    int64_t size, mtime_ns, ctime_ns, atime_ns;
    uint32_t mode, uid, gid, links;
};

struct identity {
    uint64_t inode, device, links;
};

/* One thread's way to the world. */
struct source {
    const struct calls *calls;
    void *owner;
};

struct calls {
    /* `parent` is negative for the root. */
    int (*open_directory)(struct source *, const char *name, int parent);
    int (*identify)(struct source *, int fd, struct identity *found);
    int (*list)(struct source *, int fd, struct names *names);
    int (*look)(struct source *, int fd, const char *name, struct facts *found);
    void (*close)(struct source *, int fd);
    int (*now)(struct source *, int64_t *ns);
    /* Judge names (each with a NUL) in a directory: a byte each in `marks`. */
    int (*sift)(struct source *, const char *directory, size_t directory_bytes,
                const char *joined, size_t bytes, size_t count, uint8_t *marks);
    /* Whether to go on: 0, RAISED or STOPPED. Called every now and then. */
    int (*pause)(struct source *);
};

/* The kernel's answers; see `kernel.c`. */
int kernel_open_directory(struct source *, const char *name, int parent);
int kernel_identify(struct source *, int fd, struct identity *found);
int kernel_list(struct source *, int fd, struct names *names);
int kernel_look(struct source *, int fd, const char *name, struct facts *found);
void kernel_close(struct source *, int fd);
int kernel_now(struct source *, int64_t *ns);

/* Nanoseconds since 1970, clamped. */
int64_t nanoseconds(int64_t seconds, uint32_t rest);

#endif
