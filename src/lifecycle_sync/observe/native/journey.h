/* A walk: directories from the top down, read ahead by several threads, taken in order by one. */
#ifndef LIFECYCLE_JOURNEY_H
#define LIFECYCLE_JOURNEY_H

#include <pthread.h>

#include "listing.h"

/* An element of the order of a walk: a directory that was begun, or, after its last subdirectory that
   was begun, the place of the next. */
struct item {
    struct item *before, *after;
    bool is_rest;
};

struct node {
    struct item place; /* until it is taken */
    struct item rest;  /* while there are subdirectories that were not opened */
    struct node *parent;
    /* At first what its parent's listing saw, then what was opened. */
    uint64_t inode, device;
    struct others subdirectories;
    size_t next;
    size_t unopened; /* subdirectories that may still be opened through `fd` */
    size_t depth;
    size_t holders; /* itself until it is taken, and every child */
    int fd;
    unsigned users; /* threads that are opening something through `fd` */
    int lost;       /* why it cannot be opened again: as `listing.error` */
    bool done, vanished;
    struct listing listing;
    size_t name_bytes;
    char name[];
};

struct journey {
    struct terms terms;
    pthread_mutex_t lock;
    /* Held by the one thread for which descriptors ran out, or that opens directories again. */
    pthread_mutex_t narrow;
    pthread_cond_t work, done, progress;
    struct item order; /* a ring; its head is none */
    struct node *root;
    bool begun, stopped;
    int failure;                      /* errno that ends the walk */
    size_t rests;                     /* with subdirectories that were not begun */
    size_t ahead_count, ahead_bytes;  /* begun and not taken; the memory of those that are done */
    unsigned hands, idle;             /* threads that work here, and of these wait */
    unsigned busy, queued;            /* visits under way, and of these wait for `narrow` */
    bool awaited, starved;            /* for the first in the order; for a descriptor */
    unsigned long visits;             /* that are over */
    size_t open_count;                /* nodes with a descriptor */
};

#define CLOSED (-1)

static inline struct node *node_of(struct item *item)
{
    size_t offset = item->is_rest ? offsetof(struct node, rest) : offsetof(struct node, place);

    return (struct node *)((char *)item - offset);
}

/* What `journey_next` comes back with. */
enum answer {
    SOME,  /* directories were taken */
    NONE,  /* not yet: ask again */
    OVER,  /* there are no more */
    ENDED, /* stopped, or an exception was raised */
};

/* Takes over what `terms` points to. NULL without memory. */
struct journey *journey_new(const struct terms *terms, const char *root, size_t root_bytes);
/* Work in another thread, until all is done or the walk is stopped. */
void journey_work(struct journey *journey, struct source *source);
/* Take the next directories, at most `most`; works on them where nobody else does. */
enum answer journey_next(struct journey *journey, struct source *source, struct node **taken,
                         size_t most, size_t *count);
/* The path below the root: its length, and where `text` is not NULL its bytes. */
size_t journey_path(const struct node *node, char *text);
/* Done with a directory that was taken. */
void journey_release(struct journey *journey, struct source *source, struct node *node);
/* Let everybody stop. What is open is closed now, or by the last that still works. */
void journey_stop(struct journey *journey, struct source *source);
void journey_free(struct journey *journey);

/* -- descriptors, for `journey.c` ----------------------------------------------------------- */

/* Open the root, or a subdirectory that is then no longer waited for. Returns a descriptor or what
   went wrong; `*lost` says why there is no way to the parent any more, as `listing.error`. */
int open_root(struct journey *journey, struct source *source, struct node *root);
int open_below(struct journey *journey, struct source *source, struct node *parent,
               const char *name, int *lost);
/* One user less; what is open for nothing more is closed. With the lock held, as all below. */
void let_go(struct journey *journey, struct source *source, struct node *node);
/* Close half of the open directories, those that are needed last; false if there is none. */
bool spare(struct journey *journey, struct source *source, const struct node *needed);
void close_kept(struct journey *journey, struct source *source, struct node *node);
/* Wait on a condition, for 50 ms at most; false if that was too short. */
bool wait_on(struct journey *journey, pthread_cond_t *condition);

#endif
