/* Descriptors of directories: few at a time, given up where they run out, and opened again. */
#include <errno.h>
#include <stdlib.h>

#include "journey.h"

#define OPEN_MAX 128

static bool ran_out(int error)
{
    return error == -EMFILE || error == -ENFILE;
}

void close_kept(struct journey *journey, struct source *source, struct node *node)
{
    int fd = node->fd;

    node->fd = CLOSED;
    journey->open_count--;
    source->calls->close(source, fd);
}

void let_go(struct journey *journey, struct source *source, struct node *node)
{
    node->users--;
    if (node->fd != CLOSED && node->users == 0 && node->unopened == 0)
        close_kept(journey, source, node);
}

bool spare(struct journey *journey, struct source *source, const struct node *needed)
{
    size_t open = 0, wanted;

    /* The last in the order are needed last: these are the ones nearest to the root. */
    for (int closing = 0; closing < 2; closing++) {
        wanted = (open + 1) / 2;
        for (struct item *item = journey->order.before; item != &journey->order;
             item = item->before) {
            struct node *node = node_of(item);

            if (!item->is_rest || node->fd == CLOSED || node->users > 0 || node == needed)
                continue;
            if (!closing)
                open++;
            else if (wanted-- > 0)
                close_kept(journey, source, node);
            else
                break;
        }
    }
    return open > 0;
}

/* Wait until another thread is done with a directory; false if none is at work. Nobody begins with
   another one meanwhile. */
static bool others_are_done(struct journey *journey, unsigned long visits)
{
    journey->starved = true;
    while (!journey->stopped && journey->visits == visits && journey->busy > journey->queued + 1)
        wait_on(journey, &journey->progress);
    journey->starved = false;
    if (journey->idle > 0)
        pthread_cond_broadcast(&journey->work);
    return journey->visits != visits;
}

/* Open with whatever has to be given up for it; only one thread at a time. */
static int open_with_room(struct journey *journey, struct source *source, const char *name,
                          const struct node *parent)
{
    for (;;) {
        unsigned long visits;
        bool again;
        int fd;

        pthread_mutex_lock(&journey->lock);
        if (journey->open_count >= OPEN_MAX)
            spare(journey, source, parent);
        visits = journey->visits;
        pthread_mutex_unlock(&journey->lock);
        fd = source->calls->open_directory(source, name, parent == NULL ? -1 : parent->fd);
        if (!ran_out(fd))
            return fd;
        pthread_mutex_lock(&journey->lock);
        /* Once more after waiting: what was in use before may be closed now. */
        again = spare(journey, source, parent) || others_are_done(journey, visits) ||
                spare(journey, source, parent);
        pthread_mutex_unlock(&journey->lock);
        if (!again)
            return fd;
    }
}

/* Whether what is open is the directory that it was: 0, SWAPPED, or what went wrong. */
static int recognise(struct journey *journey, struct source *source, const struct node *node,
                     int fd)
{
    struct identity found;
    int error = source->calls->identify(source, fd, &found);

    if (error != 0)
        return error;
    if (found.device != node->device ||
        (journey->terms.stable_inodes && found.inode != node->inode))
        return SWAPPED;
    return 0;
}

/* Open directories again, `chain` from the top down; `above` is open and in use. */
static int open_chain(struct journey *journey, struct source *source, struct node *above,
                      struct node **chain, size_t count)
{
    int error = 0;

    for (size_t i = 0; i < count && error == 0; i++) {
        int fd = open_with_room(journey, source, chain[i]->name, above);

        if (fd < 0)
            error = fd;
        else if ((error = recognise(journey, source, chain[i], fd)) != 0)
            source->calls->close(source, fd);
        pthread_mutex_lock(&journey->lock);
        if (error == 0) {
            chain[i]->fd = fd;
            chain[i]->users++;
            journey->open_count++;
        }
        if (above != NULL)
            let_go(journey, source, above);
        pthread_mutex_unlock(&journey->lock);
        above = chain[i];
    }
    return error;
}

/* Have a directory open and in use, from the nearest that is open or the root. Those on the way stay
   open as far as there is room: the walk will soon come back to them. Returns 0, why it is lost, or
   RAISED or STOPPED. */
static int reach(struct journey *journey, struct source *source, struct node *node)
{
    struct node *top = node, *above, **chain;
    size_t count;
    int error;

    pthread_mutex_lock(&journey->lock);
    if (node->lost != 0 || node->fd != CLOSED) {
        error = node->lost;
        node->users += error == 0;
        pthread_mutex_unlock(&journey->lock);
        return error;
    }
    while (top->parent != NULL && top->parent->fd == CLOSED)
        top = top->parent;
    above = top->parent;
    if (above != NULL)
        above->users++;
    pthread_mutex_unlock(&journey->lock);
    count = node->depth - top->depth + 1;
    chain = malloc(count * sizeof *chain);
    if (chain != NULL) {
        struct node *each = node;

        for (size_t i = count; i-- > 0; each = each->parent)
            chain[i] = each;
        error = open_chain(journey, source, above, chain, count);
        free(chain);
    } else {
        error = -ENOMEM;
        pthread_mutex_lock(&journey->lock);
        if (above != NULL)
            let_go(journey, source, above);
        pthread_mutex_unlock(&journey->lock);
    }
    if (error == 0 || error == RAISED || error == STOPPED)
        return error;
    return node->lost = error < 0 ? -error : error;
}

int open_root(struct journey *journey, struct source *source, struct node *root)
{
    return open_with_room(journey, source, root->name, NULL);
}

/* The usual way: -EMFILE where it does not go without more ado. */
static int open_at_once(struct journey *journey, struct source *source, struct node *parent,
                        const char *name)
{
    int fd = -EMFILE;
    bool open;

    pthread_mutex_lock(&journey->lock);
    open = parent->fd != CLOSED && journey->open_count < OPEN_MAX;
    parent->users += open;
    pthread_mutex_unlock(&journey->lock);
    if (open)
        fd = source->calls->open_directory(source, name, parent->fd);
    pthread_mutex_lock(&journey->lock);
    /* Not closed even if nobody uses it: there may be a second try. */
    parent->users -= open;
    journey->queued += ran_out(fd);
    pthread_mutex_unlock(&journey->lock);
    return fd;
}

int open_below(struct journey *journey, struct source *source, struct node *parent,
               const char *name, int *lost)
{
    int fd = open_at_once(journey, source, parent, name);

    if (!ran_out(fd))
        return fd;
    pthread_mutex_lock(&journey->narrow);
    pthread_mutex_lock(&journey->lock);
    journey->queued--;
    pthread_mutex_unlock(&journey->lock);
    *lost = reach(journey, source, parent);
    if (*lost == 0) {
        fd = open_with_room(journey, source, name, parent);
        pthread_mutex_lock(&journey->lock);
        parent->users--;
        pthread_mutex_unlock(&journey->lock);
    } else if (*lost == RAISED || *lost == STOPPED) {
        fd = *lost;
        *lost = 0;
    }
    pthread_mutex_unlock(&journey->narrow);
    return fd;
}
