/* One directory, read from its open descriptor: names, what they are, and the signature. */
#ifndef LIFECYCLE_LISTING_H
#define LIFECYCLE_LISTING_H

#include "blake2b.h"
#include "source.h"

/* Beside errno, why there is no listing; above every errno. */
enum { MOUNT_POINT = 100001, SWAPPED };

/* A subdirectory or special entry. */
struct other {
    uint64_t inode, device;
    size_t name; /* where it starts in the text */
    uint8_t kind;
};

struct others {
    struct other *list;
    size_t count, room;
    char *text; /* names with a NUL each */
    size_t text_bytes, text_room;
};

/* Columns of `count` numbers one after the other, in the order of the names. */
struct listing {
    int error; /* 0, errno, MOUNT_POINT or SWAPPED: then nothing else is meaningful */
    bool has_signature;
    uint8_t signature[DIGEST_BYTES];
    uint64_t count, ignored, specials;
    int64_t byte_count;
    char *names; /* with a NUL each */
    size_t names_bytes;
    uint8_t *kinds;
    uint64_t *tuples;  /* sizes, mtimes, ctimes, inodes */
    uint32_t *owners;  /* modes, uids, gids, links */
    int64_t *atimes;
    size_t *racy; /* positions */
    size_t racy_count, racy_room;
    size_t memory; /* bytes that all of it takes, about */
};

struct own {
    uint64_t device, inode;
};

/* What is the same for all of one walk. */
struct terms {
    uint8_t rules_hash[DIGEST_BYTES];
    bool default_rules; /* judged here */
    bool sift;          /* judged by `calls.sift`, the default rules too */
    bool stable_inodes;
    int64_t margin_ns;
    struct own *own;
    size_t own_count;
    char *private_name; /* of the directory in the root that is ours */
};

/* An open directory. The path, relative to the root, is there only where `terms.sift` asks for it. */
struct place {
    int fd;
    bool is_root;
    const char *path;
    size_t path_bytes;
};

/* Fill a zeroed listing, and `subdirectories` by name. Returns 0, -errno, RAISED or STOPPED. */
int listing_read(struct source *source, const struct terms *terms, const struct place *place,
                 struct listing *listing, struct others *subdirectories);
void listing_free(struct listing *listing);
void others_free(struct others *others);

#endif
