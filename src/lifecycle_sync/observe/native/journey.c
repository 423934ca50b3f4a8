#include "journey.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* What is read ahead of whoever takes it: directories, and bytes of memory. */
#define AHEAD_MAX 256
#define AHEAD_BYTES_MAX (8 << 20)
/* One turn of taking ends when it has so many bytes. */
#define TAKEN_BYTES_MAX (1 << 20)
#define WAIT_NS 50000000

/* -- the order ----------------------------------------------------------------------------- */

static void insert_after(struct item *before, struct item *item)
{
    item->before = before;
    item->after = before->after;
    before->after->before = item;
    before->after = item;
}

static void remove_item(struct item *item)
{
    item->before->after = item->after;
    item->after->before = item->before;
}

static struct node *new_node(struct node *parent, const char *name, size_t bytes)
{
    struct node *node = calloc(1, sizeof *node + bytes + 1);

    if (node == NULL)
        return NULL;
    memcpy(node->name, name, bytes);
    node->name_bytes = bytes;
    node->rest.is_rest = true;
    node->parent = parent;
    node->depth = parent == NULL ? 0 : parent->depth + 1;
    node->fd = CLOSED;
    node->holders = 1;
    return node;
}

/* One holder less; what nobody holds goes, with the ancestors that only it held. */
static void release(struct journey *journey, struct source *source, struct node *node)
{
    while (node != NULL && --node->holders == 0) {
        struct node *parent = node->parent;

        if (node->fd != CLOSED)
            close_kept(journey, source, node);
        others_free(&node->subdirectories);
        listing_free(&node->listing);
        free(node);
        node = parent;
    }
}

/* The next subdirectory of a directory that has one. NULL without memory: the walk ends. */
static struct node *begin(struct journey *journey, struct node *parent)
{
    struct others *others = &parent->subdirectories;
    const struct other *other = &others->list[parent->next];
    const char *name = others->text + other->name;
    struct node *node = new_node(parent, name, strlen(name));

    if (node == NULL) {
        journey->failure = ENOMEM;
        journey->stopped = true;
        return NULL;
    }
    node->inode = other->inode;
    node->device = other->device;
    parent->holders++;
    insert_after(parent->rest.before, &node->place);
    journey->ahead_count++;
    journey->busy++;
    if (++parent->next == others->count) {
        journey->rests--;
        others_free(others);
    }
    return node;
}

/* One subdirectory less to open. */
static void opened(struct journey *journey, struct source *source, struct node *parent)
{
    if (--parent->unopened > 0)
        return;
    remove_item(&parent->rest);
    if (parent->fd != CLOSED && parent->users == 0)
        close_kept(journey, source, parent);
    release(journey, source, parent);
}

/* Whose next subdirectory is to be read; NULL if there is none, or enough was read ahead. */
static struct node *pick(struct journey *journey)
{
    struct item *item = journey->order.after;

    if (journey->rests == 0 || journey->starved)
        return NULL;
    if (!item->is_rest && (journey->ahead_count >= AHEAD_MAX ||
                           journey->ahead_bytes >= AHEAD_BYTES_MAX))
        return NULL;
    while (!item->is_rest || node_of(item)->next >= node_of(item)->subdirectories.count)
        item = item->after;
    return node_of(item);
}

/* -- one directory ------------------------------------------------------------------------- */

/* Whether it went wrong for the whole walk. */
static bool ends_all(int error)
{
    return error == RAISED || error == STOPPED;
}

static int read_open(struct journey *journey, struct source *source, struct node *node, int fd,
                     struct others *subdirectories, struct identity *found)
{
    struct place place = {.fd = fd, .is_root = node->parent == NULL};
    char *path = NULL;
    int error = source->calls->identify(source, fd, found);

    if (error != 0)
        return error;
    if (node->parent != NULL) {
        if (found->device != node->device)
            return MOUNT_POINT;
        if (journey->terms.stable_inodes && found->inode != node->inode)
            return SWAPPED;
    }
    if (journey->terms.sift) {
        place.path_bytes = journey_path(node, NULL);
        path = malloc(place.path_bytes + 1);
        if (path == NULL)
            return -ENOMEM;
        journey_path(node, path);
        place.path = path;
    }
    for (bool again = true; again;) {
        again = false;
        error = listing_read(source, &journey->terms, &place, &node->listing, subdirectories);
        if (error == -EMFILE || error == -ENFILE) {
            pthread_mutex_lock(&journey->lock);
            again = spare(journey, source, NULL);
            pthread_mutex_unlock(&journey->lock);
        }
    }
    free(path);
    return error;
}

/* List a directory that was begun. */
static void visit(struct journey *journey, struct source *source, struct node *node)
{
    struct others subdirectories = {0};
    struct identity found = {0};
    int error = 0, fd = CLOSED, lost = 0;

    if (node->parent == NULL) {
        fd = open_root(journey, source, node);
    } else {
        if (node->device != node->parent->device)
            lost = MOUNT_POINT;
        else
            fd = open_below(journey, source, node->parent, node->name, &lost);
        if (fd == -ELOOP || fd == -ENOTDIR)
            lost = SWAPPED;
        pthread_mutex_lock(&journey->lock);
        opened(journey, source, node->parent);
        pthread_mutex_unlock(&journey->lock);
    }
    if (lost != 0)
        error = lost;
    else if (fd < 0)
        error = fd;
    else
        error = read_open(journey, source, node, fd, &subdirectories, &found);
    if (fd >= 0 && subdirectories.count == 0)
        source->calls->close(source, fd);
    pthread_mutex_lock(&journey->lock);
    if (ends_all(error)) {
        journey->stopped = true;
    } else if (error == -ENOENT && node->parent != NULL) {
        node->vanished = true;
    } else if (error != 0) {
        node->listing.error = error < 0 ? -error : error;
    } else {
        node->inode = found.inode;
        node->device = found.device;
    }
    if (subdirectories.count > 0) {
        node->subdirectories = subdirectories;
        node->unopened = subdirectories.count;
        node->fd = fd;
        node->holders++;
        journey->open_count++;
        insert_after(&node->place, &node->rest);
        journey->rests++;
    } else {
        others_free(&subdirectories);
    }
    node->done = true;
    journey->ahead_bytes += node->listing.memory;
    journey->busy--;
    journey->visits++;
    if (journey->starved || journey->stopped)
        pthread_cond_broadcast(&journey->progress);
    if (journey->awaited && (journey->order.after == &node->place || journey->stopped))
        pthread_cond_signal(&journey->done);
    if (journey->idle > 0 && (pick(journey) != NULL || journey->busy == 0 || journey->stopped))
        pthread_cond_broadcast(&journey->work);
    pthread_mutex_unlock(&journey->lock);
}

/* -- threads ------------------------------------------------------------------------------- */

bool wait_on(struct journey *journey, pthread_cond_t *condition)
{
    struct timespec until;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += WAIT_NS;
    if (until.tv_nsec >= 1000000000) {
        until.tv_nsec -= 1000000000;
        until.tv_sec++;
    }
    return pthread_cond_timedwait(condition, &journey->lock, &until) == 0;
}

/* Let go of everything that was not taken. With the lock held, and nobody at work. */
static void dismantle(struct journey *journey, struct source *source)
{
    while (journey->order.after != &journey->order) {
        struct item *item = journey->order.after;

        remove_item(item);
        release(journey, source, node_of(item));
    }
    journey->rests = 0;
}

void journey_work(struct journey *journey, struct source *source)
{
    pthread_mutex_lock(&journey->lock);
    journey->hands++;
    while (!journey->stopped) {
        struct node *parent = pick(journey);
        struct node *node = parent == NULL ? NULL : begin(journey, parent);

        if (node != NULL) {
            pthread_mutex_unlock(&journey->lock);
            visit(journey, source, node);
            pthread_mutex_lock(&journey->lock);
        } else if (journey->begun && journey->rests == 0 && journey->busy == 0) {
            break;
        } else if (!journey->stopped) {
            journey->idle++;
            pthread_cond_wait(&journey->work, &journey->lock);
            journey->idle--;
        }
    }
    journey->hands--;
    if (journey->stopped && journey->hands == 0 && journey->busy == 0)
        dismantle(journey, source);
    pthread_mutex_unlock(&journey->lock);
}

static size_t take(struct journey *journey, struct source *source, struct node **taken,
                   size_t most)
{
    size_t count = 0, bytes = 0;

    while (count < most && bytes < TAKEN_BYTES_MAX) {
        struct item *item = journey->order.after;
        struct node *node;

        if (item == &journey->order || item->is_rest || !(node = node_of(item))->done)
            break;
        remove_item(item);
        journey->ahead_count--;
        journey->ahead_bytes -= node->listing.memory;
        bytes += node->listing.memory;
        if (node->vanished)
            release(journey, source, node);
        else
            taken[count++] = node;
    }
    if (journey->idle > 0 && journey->rests > 0 && journey->ahead_count <= AHEAD_MAX / 2 &&
        journey->ahead_bytes <= AHEAD_BYTES_MAX / 2)
        pthread_cond_broadcast(&journey->work);
    return count;
}

/* Read the next directory, if there is one that nobody reads. With the lock held. */
static bool help(struct journey *journey, struct source *source)
{
    struct node *node = NULL, *parent;

    if (!journey->begun) {
        journey->begun = true;
        node = journey->root;
        insert_after(&journey->order, &node->place);
        journey->ahead_count++;
        journey->busy++;
    } else if ((parent = pick(journey)) != NULL) {
        node = begin(journey, parent);
    }
    if (node == NULL)
        return false;
    pthread_mutex_unlock(&journey->lock);
    visit(journey, source, node);
    pthread_mutex_lock(&journey->lock);
    return true;
}

enum answer journey_next(struct journey *journey, struct source *source, struct node **taken,
                         size_t most, size_t *count)
{
    enum answer answer = NONE;
    bool once_more = true;

    pthread_mutex_lock(&journey->lock);
    while (answer == NONE) {
        if (journey->stopped)
            answer = ENDED;
        else if ((*count = take(journey, source, taken, most)) > 0)
            answer = SOME;
        else if (journey->begun && journey->order.after == &journey->order)
            answer = OVER;
        else if (!once_more)
            break;
        else if (help(journey, source))
            once_more = false;
        else if (!journey->stopped) {
            journey->awaited = true;
            once_more = wait_on(journey, &journey->done);
            journey->awaited = false;
        }
    }
    pthread_mutex_unlock(&journey->lock);
    return answer;
}

/* -- the rest ------------------------------------------------------------------------------ */

size_t journey_path(const struct node *node, char *text)
{
    size_t bytes = 0, end;

    for (const struct node *each = node; each->parent != NULL; each = each->parent)
        bytes += each->name_bytes + (each->parent->parent != NULL);
    end = bytes;
    for (const struct node *each = node; text != NULL && each->parent != NULL;
         each = each->parent) {
        end -= each->name_bytes;
        memcpy(text + end, each->name, each->name_bytes);
        if (each->parent->parent != NULL)
            text[--end] = '/';
    }
    return bytes;
}

void journey_release(struct journey *journey, struct source *source, struct node *node)
{
    pthread_mutex_lock(&journey->lock);
    release(journey, source, node);
    pthread_mutex_unlock(&journey->lock);
}

struct journey *journey_new(const struct terms *terms, const char *root, size_t root_bytes)
{
    struct journey *journey = calloc(1, sizeof *journey);
    pthread_condattr_t steady;

    if (journey == NULL || (journey->root = new_node(NULL, root, root_bytes)) == NULL) {
        free(journey);
        return NULL;
    }
    journey->terms = *terms;
    journey->order.before = journey->order.after = &journey->order;
    pthread_mutex_init(&journey->lock, NULL);
    pthread_mutex_init(&journey->narrow, NULL);
    pthread_condattr_init(&steady);
    pthread_condattr_setclock(&steady, CLOCK_MONOTONIC);
    pthread_cond_init(&journey->work, NULL);
    pthread_cond_init(&journey->done, &steady);
    pthread_cond_init(&journey->progress, &steady);
    pthread_condattr_destroy(&steady);
    return journey;
}

void journey_stop(struct journey *journey, struct source *source)
{
    pthread_mutex_lock(&journey->lock);
    journey->stopped = true;
    pthread_cond_broadcast(&journey->work);
    pthread_cond_broadcast(&journey->done);
    pthread_cond_broadcast(&journey->progress);
    if (journey->hands == 0 && journey->busy == 0)
        dismantle(journey, source);
    pthread_mutex_unlock(&journey->lock);
}

void journey_free(struct journey *journey)
{
    if (!journey->begun)
        free(journey->root);
    free(journey->terms.own);
    free(journey->terms.private_name);
    pthread_cond_destroy(&journey->progress);
    pthread_cond_destroy(&journey->done);
    pthread_cond_destroy(&journey->work);
    pthread_mutex_destroy(&journey->narrow);
    pthread_mutex_destroy(&journey->lock);
    free(journey);
}
