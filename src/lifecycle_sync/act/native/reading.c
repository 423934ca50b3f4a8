/* `lifecycle_sync.act._reading`: many small files of one folder read, each only if it is plain and
 * stays what it is, for the process that reads ahead of a backup.
 *
 * Only what goes without a question is read here. Any other file is left out, and whoever asked
 * looks at it the Python way, which finds out why. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

/* What the Python side was written for; another number, and it is not used. */
#define INTERFACE 1
#define BLOCK 512
#define SIZE_MAX_BYTES (1 << 20)

/* A file of the folder by its name, and what its record says of it. */
struct recorded {
    const char *name;
    long long size, mtime_ns, ctime_ns;
    unsigned long long inode;
};

static long long in_ns(struct timespec at)
{
    return at.tv_sec * 1000000000LL + at.tv_nsec;
}

static int is_same(const struct recorded *file, const struct stat *found)
{
    return S_ISREG(found->st_mode) && found->st_size == file->size &&
           in_ns(found->st_mtim) == file->mtime_ns && in_ns(found->st_ctim) == file->ctime_ns &&
           found->st_ino == file->inode;
}

static int has_attributes(int fd)
{
    ssize_t length = flistxattr(fd, NULL, 0);

    if (length < 0)
        return errno != EINVAL && errno != ENOSYS && errno != EOPNOTSUPP;
    return length > 0;
}

static int open_file(int folder, const char *name)
{
    int flags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC;
    int fd = openat(folder, name, flags | O_NOATIME);

    /* O_NOATIME is refused to those who do not own the file. */
    return fd < 0 && errno == EPERM ? openat(folder, name, flags) : fd;
}

/* All bytes of a file into a buffer with room for one more; whether they are what the record speaks
 * of, from before the first was read until after the last: looked at by its name, it is the same
 * inode with the same times, so nobody wrote into it and it was not replaced. */
static int read_one(int folder, const struct recorded *file, char *buffer, struct stat *found)
{
    struct stat after;
    int whole = 0, fd = open_file(folder, file->name);

    if (fd < 0)
        return 0;
    if (fstat(fd, found) == 0 && is_same(file, found) &&
        (long long)found->st_blocks * BLOCK >= file->size && !has_attributes(fd) &&
        pread(fd, buffer, (size_t)file->size + 1, 0) == file->size &&
        fstatat(folder, file->name, &after, AT_SYMLINK_NOFOLLOW) == 0)
        whole = is_same(file, &after) && after.st_dev == found->st_dev;
    close(fd);
    return whole;
}

/* A file as it was given, a tuple that begins with (name, size, mtime_ns, ctime_ns, inode). */
static int take(PyObject *given, struct recorded *file)
{
    Py_ssize_t length;
    char *name;

    if (!PyTuple_Check(given) || PyTuple_Size(given) < 5) {
        PyErr_SetString(PyExc_TypeError, "a file is (name, size, mtime_ns, ctime_ns, inode, ...)");
        return -1;
    }
    if (PyBytes_AsStringAndSize(PyTuple_GetItem(given, 0), &name, &length) != 0)
        return -1;
    if (strlen(name) != (size_t)length || strchr(name, '/') != NULL) {
        PyErr_SetString(PyExc_ValueError, "not the name of a file in a folder");
        return -1;
    }
    file->name = name;
    file->size = PyLong_AsLongLong(PyTuple_GetItem(given, 1));
    file->mtime_ns = PyLong_AsLongLong(PyTuple_GetItem(given, 2));
    file->ctime_ns = PyLong_AsLongLong(PyTuple_GetItem(given, 3));
    file->inode = PyLong_AsUnsignedLongLong(PyTuple_GetItem(given, 4));
    return PyErr_Occurred() == NULL ? 0 : -1;
}

static PyObject *read_or_none(int folder, PyObject *given, long long trusted_ns, char *buffer)
{
    struct recorded file;
    struct stat found;

    if (take(given, &file) != 0)
        return NULL;
    /* What was written just now may be written again within the same tick of the clock. */
    if (file.size < 0 || file.size > SIZE_MAX_BYTES || file.mtime_ns > trusted_ns ||
        file.ctime_ns > trusted_ns || !read_one(folder, &file, buffer, &found))
        Py_RETURN_NONE;
    return Py_BuildValue("y#iLKkk", buffer, (Py_ssize_t)file.size, (int)(found.st_mode & 07777),
                         in_ns(found.st_atim), (unsigned long long)found.st_nlink,
                         (unsigned long)found.st_uid, (unsigned long)found.st_gid);
}

static PyObject *read_plain(PyObject *Py_UNUSED(module), PyObject *args)
{
    int folder;
    long long trusted_ns;
    PyObject *files, *list;
    char *buffer;

    if (!PyArg_ParseTuple(args, "iO!L", &folder, &PyList_Type, &files, &trusted_ns))
        return NULL;
    buffer = PyMem_Malloc(SIZE_MAX_BYTES + 1);
    if (buffer == NULL)
        return PyErr_NoMemory();
    list = PyList_New(PyList_Size(files));
    for (Py_ssize_t i = 0; list != NULL && i < PyList_Size(files); i++) {
        PyObject *read = read_or_none(folder, PyList_GetItem(files, i), trusted_ns, buffer);

        if (read == NULL || PyList_SetItem(list, i, read) != 0)
            Py_CLEAR(list);
    }
    PyMem_Free(buffer);
    return list;
}

static PyMethodDef methods[] = {
    {"read_plain", read_plain, METH_VARARGS,
     "Of each file (bytes, mode, atime_ns, links, uid, gid), or None where it is not plain."},
    {NULL, NULL, 0, NULL},
};

static int fill(PyObject *module)
{
    return PyModule_AddIntConstant(module, "INTERFACE", INTERFACE);
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, fill},
    {0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_reading",
    .m_doc = "Many small files of one folder read, each looked at before and after.",
    .m_methods = methods,
    .m_slots = slots,
};

PyMODINIT_FUNC PyInit__reading(void)
{
    return PyModuleDef_Init(&definition);
}
