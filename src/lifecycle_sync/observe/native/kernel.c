/* The kernel's answers, by the system calls themselves: nothing here needs the interpreter. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#include "source.h"

#define LISTED_BYTES (64 * 1024)

/* What getdents64 writes; the C library has no name for it that is everywhere. */
struct listed {
    uint64_t inode;
    int64_t offset;
    uint16_t bytes;
    uint8_t type;
    char name[];
};

/* Whether a call that a signal cut short is to be made again; what went wrong in `*error`. */
static bool again(struct source *source, int *error)
{
    *error = -errno;
    if (errno != EINTR)
        return false;
    *error = source->calls->pause(source);
    return *error == 0;
}

int kernel_open_directory(struct source *source, const char *name, int parent)
{
    int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC;
    int fd, error;

    do
        fd = openat(parent < 0 ? AT_FDCWD : parent, name, flags);
    while (fd < 0 && again(source, &error));
    return fd < 0 ? error : fd;
}

int kernel_identify(struct source *source, int fd, struct identity *found)
{
    struct stat status;
    int error;

    while (fstat(fd, &status) != 0)
        if (!again(source, &error))
            return error;
    *found = (struct identity){status.st_ino, status.st_dev, status.st_nlink};
    return 0;
}

int kernel_list(struct source *source, int fd, struct names *names)
{
    char *buffer = malloc(LISTED_BYTES);
    int error = 0;
    long end;

    if (buffer == NULL)
        return -ENOMEM;
    for (size_t pause_at = BLOCK;;) {
        if (names->count >= pause_at) {
            pause_at = names->count + BLOCK;
            if ((error = source->calls->pause(source)) != 0)
                break;
        }
        end = syscall(SYS_getdents64, fd, buffer, LISTED_BYTES);
        if (end < 0 && again(source, &error))
            continue;
        if (end <= 0)
            break;
        for (char *place = buffer; place < buffer + end && error == 0;) {
            const struct listed *entry = (const struct listed *)place;
            const char *name = entry->name;

            place += entry->bytes;
            if (name[0] == '.' && (name[1] == '\0' || (name[1] == '.' && name[2] == '\0')))
                continue;
            error = names_add(names, name, strlen(name));
        }
        if (error != 0)
            break;
    }
    free(buffer);
    return error;
}

int kernel_look(struct source *source, int fd, const char *name, struct facts *found)
{
    struct statx status;
    int error;

    while (statx(fd, name, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, STATX_BASIC_STATS, &status) != 0)
        if (!again(source, &error))
            return error;
    found->inode = status.stx_ino;
    found->device = makedev(status.stx_dev_major, status.stx_dev_minor);
    found->size = status.stx_size > INT64_MAX ? INT64_MAX : (int64_t)status.stx_size;
    found->mtime_ns = nanoseconds(status.stx_mtime.tv_sec, status.stx_mtime.tv_nsec);
    found->ctime_ns = nanoseconds(status.stx_ctime.tv_sec, status.stx_ctime.tv_nsec);
    found->atime_ns = nanoseconds(status.stx_atime.tv_sec, status.stx_atime.tv_nsec);
    found->mode = status.stx_mode;
    found->uid = status.stx_uid;
    found->gid = status.stx_gid;
    found->links = status.stx_nlink;
    return 0;
}

void kernel_close(struct source *source, int fd)
{
    (void)source;
    close(fd);
}

int kernel_now(struct source *source, int64_t *ns)
{
    struct timespec now;

    (void)source;
    if (clock_gettime(CLOCK_REALTIME, &now) != 0)
        return -errno;
    *ns = nanoseconds(now.tv_sec, (uint32_t)now.tv_nsec);
    return 0;
}

int64_t nanoseconds(int64_t seconds, uint32_t rest)
{
    int64_t ns;

    if (__builtin_mul_overflow(seconds, INT64_C(1000000000), &ns) ||
        __builtin_add_overflow(ns, (int64_t)rest, &ns))
        return seconds < 0 ? INT64_MIN : INT64_MAX;
    return ns;
}
