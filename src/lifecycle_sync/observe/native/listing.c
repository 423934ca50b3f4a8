#include "listing.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { DIRECTORY = 4, REGULAR = 8, SYMLINK = 10 };

static const char FORMAT[] = "lcs-dir1";

/* -- ignoring ------------------------------------------------------------------------------ */

static bool ends_with(const char *name, size_t bytes, const char *end)
{
    size_t end_bytes = strlen(end);

    return bytes >= end_bytes && memcmp(name + bytes - end_bytes, end, end_bytes) == 0;
}

/* The default rules; `observe/ignore.py` has them in words. */
static uint8_t default_mark(const char *name, size_t bytes)
{
    if (name[0] == '.')
        return IGNORED;
    if (ends_with(name, bytes, "~") || ends_with(name, bytes, ".tmp") ||
        ends_with(name, bytes, ".bak") || ends_with(name, bytes, ".swp") ||
        strcmp(name, "Thumbs.db") == 0)
        return IGNORED_FILE;
    return 0;
}

/* -- the names ----------------------------------------------------------------------------- */

static void leave_out(struct names *names, const char *name)
{
    char *place = names->text;

    for (size_t i = 0; i < names->count; i++) {
        size_t bytes = strlen(place) + 1;

        if (strcmp(place, name) == 0) {
            char *rest = place + bytes;

            memmove(place, rest, (size_t)(names->text + names->text_bytes - rest));
            names->text_bytes -= bytes;
            names->count--;
            return;
        }
        place += bytes;
    }
}

static int read_names(struct source *source, const struct terms *terms, const struct place *place,
                      struct names *names)
{
    int error = source->calls->list(source, place->fd, names);

    if (error == 0 && names->count == 0) {
        struct identity now;

        /* Some show a removed directory as an empty one. */
        error = source->calls->identify(source, place->fd, &now);
        if (error == 0 && now.links == 0)
            error = -ENOENT;
    }
    if (error == 0)
        error = names_settle(names);
    if (error == 0 && place->is_root)
        leave_out(names, terms->private_name);
    return error;
}

/* -- the entries --------------------------------------------------------------------------- */

static int others_add(struct others *others, const char *name, size_t bytes,
                      const struct facts *facts)
{
    if (others->count == others->room) {
        size_t room = others->room * 2 + 8;
        struct other *larger = realloc(others->list, room * sizeof *larger);

        if (larger == NULL)
            return -ENOMEM;
        others->list = larger;
        others->room = room;
    }
    if (others->text_room - others->text_bytes <= bytes) {
        size_t room = others->text_room * 2 + 256;
        char *larger = realloc(others->text, room);

        if (larger == NULL)
            return -ENOMEM;
        others->text = larger;
        others->text_room = room;
    }
    memcpy(others->text + others->text_bytes, name, bytes + 1);
    others->list[others->count++] = (struct other){
        facts->inode, facts->device, others->text_bytes, (uint8_t)(facts->mode >> 12)};
    others->text_bytes += bytes + 1;
    return 0;
}

static int note_racy(struct listing *listing, size_t position)
{
    if (listing->racy_count == listing->racy_room) {
        size_t room = listing->racy_room * 2 + 8;
        size_t *larger = realloc(listing->racy, room * sizeof *larger);

        if (larger == NULL)
            return -ENOMEM;
        listing->racy = larger;
        listing->racy_room = room;
    }
    listing->racy[listing->racy_count++] = position;
    return 0;
}

static int make_room(struct listing *listing, size_t count)
{
    if (count == 0)
        return 0;
    if (count > SIZE_MAX / 64)
        return -ENOMEM;
    listing->kinds = malloc(count);
    listing->tuples = malloc(4 * count * sizeof *listing->tuples);
    listing->owners = malloc(4 * count * sizeof *listing->owners);
    listing->atimes = malloc(count * sizeof *listing->atimes);
    return listing->kinds && listing->tuples && listing->owners && listing->atimes ? 0 : -ENOMEM;
}

static void add_file(struct listing *listing, size_t room, const struct facts *facts)
{
    size_t at = listing->count++;

    listing->kinds[at] = (uint8_t)(facts->mode >> 12);
    listing->tuples[at] = (uint64_t)facts->size;
    listing->tuples[at + room] = (uint64_t)facts->mtime_ns;
    listing->tuples[at + 2 * room] = (uint64_t)facts->ctime_ns;
    listing->tuples[at + 3 * room] = facts->inode;
    listing->owners[at] = facts->mode;
    listing->owners[at + room] = facts->uid;
    listing->owners[at + 2 * room] = facts->gid;
    listing->owners[at + 3 * room] = facts->links;
    listing->atimes[at] = facts->atime_ns;
    if (__builtin_add_overflow(listing->byte_count, facts->size, &listing->byte_count))
        listing->byte_count = INT64_MAX;
}

/* Columns that stand `room` apart, moved together. */
static void close_up(struct listing *listing, size_t room)
{
    size_t count = listing->count;

    if (count == room)
        return;
    for (size_t column = 1; column < 4; column++) {
        memmove(listing->tuples + column * count, listing->tuples + column * room,
                count * sizeof *listing->tuples);
        memmove(listing->owners + column * count, listing->owners + column * room,
                count * sizeof *listing->owners);
    }
}

static bool is_own(const struct terms *terms, const struct facts *facts)
{
    for (size_t i = 0; i < terms->own_count; i++)
        if (terms->own[i].inode == facts->inode && terms->own[i].device == facts->device)
            return true;
    return false;
}

static size_t bytes_of(const char *text, size_t count)
{
    const char *end = text;

    while (count-- > 0)
        end += strlen(end) + 1;
    return (size_t)(end - text);
}

/* Marks of a block of names. */
static int judge(struct source *source, const struct terms *terms, const struct place *place,
                 const char *text, size_t count, uint8_t *marks)
{
    if (terms->sift)
        return source->calls->sift(source, place->path, place->path_bytes, text,
                                   bytes_of(text, count), count, marks);
    for (size_t i = 0; i < count; i++) {
        size_t name_bytes = strlen(text);

        marks[i] = terms->default_rules ? default_mark(text, name_bytes) : 0;
        text += name_bytes + 1;
    }
    return 0;
}

/* Look at all names; those of files stay in `names->text`, moved together. */
static int look(struct source *source, const struct terms *terms, const struct place *place,
                int64_t trusted_ns, struct names *names, struct listing *listing,
                struct others *others)
{
    const char *text = names->text;
    char *kept = names->text;
    size_t room = names->count;
    uint8_t marks[BLOCK];
    int error = make_room(listing, room);

    for (size_t done = 0; done < room && error == 0;) {
        size_t some = room - done < BLOCK ? room - done : BLOCK;

        if (room > BLOCK)
            error = source->calls->pause(source);
        if (error == 0)
            error = judge(source, terms, place, text, some, marks);
        for (size_t i = 0; i < some && error == 0; i++) {
            const char *name = text;
            size_t bytes = strlen(name);
            struct facts facts;
            unsigned kind;

            text += bytes + 1;
            if (marks[i] == IGNORED) {
                /* Not even looked at: an error there is nobody's concern. */
                listing->ignored++;
                continue;
            }
            error = source->calls->look(source, place->fd, name, &facts);
            if (error == -ENOENT) {
                error = 0;
                continue;
            }
            if (error != 0)
                break;
            if (terms->own_count > 0 && is_own(terms, &facts))
                continue;
            kind = facts.mode >> 12;
            if (marks[i] & (kind == DIRECTORY ? IGNORED_DIRECTORY : IGNORED_FILE)) {
                listing->ignored++;
                continue;
            }
            if (kind != REGULAR && kind != SYMLINK) {
                error = others_add(others, name, bytes, &facts);
                continue;
            }
            if (facts.mtime_ns > trusted_ns || facts.ctime_ns > trusted_ns)
                error = note_racy(listing, listing->count);
            memmove(kept, name, bytes + 1);
            kept += bytes + 1;
            add_file(listing, room, &facts);
        }
        done += some;
    }
    if (error != 0)
        return error;
    close_up(listing, room);
    listing->names = names->text;
    listing->names_bytes = (size_t)(kept - names->text);
    names->text = NULL;
    return 0;
}

/* -- the signature ------------------------------------------------------------------------- */

static void add_numbers(struct blake2b *state, const uint64_t *numbers, size_t count)
{
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    for (size_t i = 0; i < count; i++) {
        uint64_t turned = __builtin_bswap64(numbers[i]);

        blake2b_add(state, &turned, sizeof turned);
    }
#else
    blake2b_add(state, numbers, count * sizeof *numbers);
#endif
}

static void add_zeros(struct blake2b *state, size_t count)
{
    static const uint64_t zeros[64];

    for (; count > 64; count -= 64)
        blake2b_add(state, zeros, sizeof zeros);
    blake2b_add(state, zeros, count * sizeof *zeros);
}

/* `observe/signature.py` has the format. */
static void sign(const struct terms *terms, struct listing *listing, const struct others *others)
{
    struct blake2b state;
    /* A list of names has one NUL less than names. */
    size_t names_bytes = listing->names_bytes - (listing->count > 0);
    size_t others_bytes = others->text_bytes - (others->count > 0);
    uint64_t counts[4] = {listing->count, names_bytes, others->count, others_bytes};

    blake2b_begin(&state);
    blake2b_add(&state, FORMAT, sizeof FORMAT - 1);
    blake2b_add(&state, terms->rules_hash, DIGEST_BYTES);
    add_numbers(&state, counts, 4);
    blake2b_add(&state, listing->names, names_bytes);
    blake2b_add(&state, listing->kinds, listing->count);
    add_numbers(&state, listing->tuples, 3 * listing->count);
    if (terms->stable_inodes)
        add_numbers(&state, listing->tuples + 3 * listing->count, listing->count);
    else
        add_zeros(&state, listing->count);
    blake2b_add(&state, others->text, others_bytes);
    for (size_t i = 0; i < others->count; i++)
        blake2b_add(&state, &others->list[i].kind, 1);
    if (terms->stable_inodes)
        for (size_t i = 0; i < others->count; i++)
            add_numbers(&state, &others->list[i].inode, 1);
    else
        add_zeros(&state, others->count);
    blake2b_end(&state, listing->signature);
    listing->has_signature = true;
}

/* -- the whole ----------------------------------------------------------------------------- */

static void keep_directories(struct others *others, struct listing *listing)
{
    size_t kept = 0;

    for (size_t i = 0; i < others->count; i++)
        if (others->list[i].kind == DIRECTORY)
            others->list[kept++] = others->list[i];
    listing->specials = others->count - kept;
    others->count = kept;
}

int listing_read(struct source *source, const struct terms *terms, const struct place *place,
                 struct listing *listing, struct others *subdirectories)
{
    struct names names = {0};
    int64_t trusted_ns = 0;
    /* Before the names are read: what changes from now on has a time that is not older. */
    int error = source->calls->now(source, &trusted_ns);

    if (error == 0 && __builtin_sub_overflow(trusted_ns, terms->margin_ns, &trusted_ns))
        trusted_ns = INT64_MIN;
    if (error == 0)
        error = read_names(source, terms, place, &names);
    if (error == 0)
        error = look(source, terms, place, trusted_ns, &names, listing, subdirectories);
    if (error == 0) {
        if (listing->racy_count == 0)
            sign(terms, listing, subdirectories);
        keep_directories(subdirectories, listing);
        listing->memory = sizeof *listing + listing->names_bytes + 57 * listing->count;
    } else {
        listing_free(listing);
        others_free(subdirectories);
    }
    names_free(&names);
    return error;
}

void listing_free(struct listing *listing)
{
    free(listing->names);
    free(listing->kinds);
    free(listing->tuples);
    free(listing->owners);
    free(listing->atimes);
    free(listing->racy);
    *listing = (struct listing){0};
}

void others_free(struct others *others)
{
    free(others->list);
    free(others->text);
    *others = (struct others){0};
}
