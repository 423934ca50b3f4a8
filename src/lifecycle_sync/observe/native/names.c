#include "names.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Runs of so many are sorted by insertion, then merged. */
#define RUN 16

static size_t larger(size_t room, size_t wanted)
{
    size_t more = room + room / 2 + 64;

    return more > wanted ? more : wanted;
}

static int make_room(struct names *names, size_t end)
{
    if (end > names->text_room) {
        size_t room = larger(names->text_room, end);
        char *text = realloc(names->text, room);

        if (text == NULL)
            return -ENOMEM;
        names->text = text;
        names->text_room = room;
    }
    if (names->count == names->room) {
        size_t room = larger(names->room, names->count + 1);
        struct name *list = realloc(names->list, room * sizeof *list);

        if (list == NULL)
            return -ENOMEM;
        names->list = list;
        names->room = room;
    }
    return 0;
}

int names_add(struct names *names, const char *name, size_t bytes)
{
    size_t end = names->text_bytes + bytes + 1;

    if (end > UINT32_MAX)
        return -EOVERFLOW;
    if (make_room(names, end) != 0)
        return -ENOMEM;
    memcpy(names->text + names->text_bytes, name, bytes);
    names->text[end - 1] = '\0';
    names->list[names->count++] =
        (struct name){.start = (uint32_t)names->text_bytes, .bytes = (uint32_t)bytes};
    names->text_bytes = end;
    return 0;
}

/* How many bytes all names begin with. */
static size_t common_bytes(const struct names *names)
{
    const char *first = names->text + names->list[0].start;
    size_t common = names->list[0].bytes;

    for (size_t i = 1; i < names->count && common > 0; i++) {
        const char *other = names->text + names->list[i].start;
        size_t same = 0;

        /* A name is a NUL longer than it says, and none has one inside. */
        while (same < common && other[same] == first[same])
            same++;
        common = same;
    }
    return common;
}

/* A name that ends is filled up with zeros, which no name contains. */
static uint64_t key_of(const char *place, size_t bytes)
{
    uint64_t key = 0;

    for (size_t i = 0; i < 8; i++)
        key = key << 8 | (i < bytes ? (uint8_t)place[i] : 0);
    return key;
}

static int compared(const char *text, const struct name *one, const struct name *other)
{
    if (one->key != other->key)
        return one->key < other->key ? -1 : 1;
    return strcmp(text + one->start, text + other->start);
}

static void sort_run(const char *text, struct name *list, size_t count)
{
    for (size_t i = 1; i < count; i++) {
        struct name moved = list[i];
        size_t at = i;

        for (; at > 0 && compared(text, &moved, &list[at - 1]) < 0; at--)
            list[at] = list[at - 1];
        list[at] = moved;
    }
}

static void merge(const char *text, const struct name *from, size_t middle, size_t end,
                  struct name *to)
{
    size_t left = 0, right = middle;

    for (size_t at = 0; at < end; at++) {
        if (right >= end || (left < middle && compared(text, &from[left], &from[right]) <= 0))
            to[at] = from[left++];
        else
            to[at] = from[right++];
    }
}

static int sort(struct names *names)
{
    struct name *list = names->list, *other;
    size_t count = names->count;

    for (size_t start = 0; start < count; start += RUN)
        sort_run(names->text, list + start, count - start < RUN ? count - start : RUN);
    if (count <= RUN)
        return 0;
    other = malloc(count * sizeof *other);
    if (other == NULL)
        return -ENOMEM;
    for (size_t width = RUN; width < count; width *= 2) {
        struct name *swap = list;

        for (size_t start = 0; start < count; start += 2 * width) {
            size_t end = count - start < 2 * width ? count - start : 2 * width;

            merge(names->text, list + start, end < width ? end : width, end, other + start);
        }
        list = other;
        other = swap;
    }
    names->list = list;
    names->room = count;
    free(other);
    return 0;
}

int names_settle(struct names *names)
{
    char *text;
    size_t end = 0, kept = 0, common;

    if (names->count == 0)
        return 0;
    common = common_bytes(names);
    for (size_t i = 0; i < names->count; i++) {
        struct name *name = &names->list[i];

        name->key = key_of(names->text + name->start + common, name->bytes - common);
    }
    if (sort(names) != 0)
        return -ENOMEM;
    text = malloc(names->text_bytes);
    if (text == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < names->count; i++) {
        const struct name *name = &names->list[i];

        /* A file that is replaced while the directory is read may be told twice. */
        if (i > 0 && compared(names->text, &names->list[i - 1], name) == 0)
            continue;
        memcpy(text + end, names->text + name->start, name->bytes + 1);
        end += name->bytes + 1;
        kept++;
    }
    free(names->text);
    free(names->list);
    *names = (struct names){.text = text, .text_bytes = end, .text_room = end, .count = kept};
    return 0;
}

void names_free(struct names *names)
{
    free(names->text);
    free(names->list);
    *names = (struct names){0};
}
