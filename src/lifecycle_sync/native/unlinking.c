/* `lifecycle_sync._unlinking`: many files of one folder looked at, and unlinked, each looked at once
 * more and barred from writers first, for `FileOps.look` and `FileOps.unlink_judged`, without the
 * interpreter.
 *
 * Only what goes without a question is unlinked here. Any other file is left as it is, and the
 * caller takes the Python way with it, which finds out why. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* What the Python side was written for; another number, and it is not used. */
#define INTERFACE 2
#define BLOCK 512
#define NOT_DONE (-1)

/* A file of the folder by its name, and what it was when it was judged. */
struct judged {
    const char *name;
    unsigned long long device, inode;
    long long size, mtime_ns;
    /* What its end gave back, in bytes, or NOT_DONE. */
    long long freed;
};

static long long unlink_one(int folder, const struct judged *file)
{
    struct stat found;
    long long freed = NOT_DONE;
    int fd = openat(folder, file->name,
                    O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC | O_NOATIME);

    if (fd < 0)
        return NOT_DONE;
    /* A writer that comes while the lease is held makes the kernel send a signal: one that is
     * ignored by default, where SIGIO would end the process. */
    if (fstat(fd, &found) == 0 && S_ISREG(found.st_mode) &&
        found.st_dev == file->device && found.st_ino == file->inode &&
        found.st_size == file->size &&
        found.st_mtim.tv_sec * 1000000000LL + found.st_mtim.tv_nsec == file->mtime_ns &&
        fcntl(fd, F_SETSIG, SIGURG) == 0 && fcntl(fd, F_SETLEASE, F_RDLCK) == 0 &&
        unlinkat(folder, file->name, 0) == 0)
        freed = found.st_nlink == 1 ? (long long)found.st_blocks * BLOCK : 0;
    close(fd);
    return freed;
}

/* Whether bytes are a name in a folder, and no way out of it. */
static int is_name(const char *name, Py_ssize_t length)
{
    if (strlen(name) == (size_t)length && strchr(name, '/') == NULL)
        return 1;
    PyErr_SetString(PyExc_ValueError, "not the name of a file in a folder");
    return 0;
}

/* The files as they were given: a tuple of (name, (device, inode, size, mtime_ns)). */
static int take(PyObject *files, struct judged *taken)
{
    for (Py_ssize_t i = 0; i < PyTuple_Size(files); i++) {
        struct judged *file = &taken[i];
        Py_ssize_t length;

        if (!PyArg_ParseTuple(PyTuple_GetItem(files, i), "y#(KKLL)", &file->name, &length,
                              &file->device, &file->inode, &file->size, &file->mtime_ns))
            return -1;
        if (!is_name(file->name, length))
            return -1;
    }
    return 0;
}

static PyObject *told(const struct judged *taken, Py_ssize_t count)
{
    PyObject *list = PyList_New(count);

    for (Py_ssize_t i = 0; list != NULL && i < count; i++) {
        PyObject *freed = PyLong_FromLongLong(taken[i].freed);

        if (freed == NULL || PyList_SetItem(list, i, freed) != 0)
            Py_CLEAR(list);
    }
    return list;
}

static PyObject *unlink_judged(PyObject *Py_UNUSED(module), PyObject *args)
{
    int folder;
    PyObject *given, *files, *list = NULL;
    struct judged *taken;
    Py_ssize_t count;

    if (!PyArg_ParseTuple(args, "iO", &folder, &given))
        return NULL;
    /* Held until the end, and with it the names: others run meanwhile. */
    files = PySequence_Tuple(given);
    if (files == NULL)
        return NULL;
    count = PyTuple_Size(files);
    taken = PyMem_Calloc(count > 0 ? (size_t)count : 1, sizeof *taken);
    if (taken == NULL) {
        PyErr_NoMemory();
    } else if (take(files, taken) == 0) {
        Py_BEGIN_ALLOW_THREADS
        for (Py_ssize_t i = 0; i < count; i++)
            taken[i].freed = unlink_one(folder, &taken[i]);
        Py_END_ALLOW_THREADS
        list = told(taken, count);
    }
    PyMem_Free(taken);
    Py_DECREF(files);
    return list;
}

/* A name, and what was found there; or the errno of the look. */
struct looked {
    char *name;
    int error;
    struct stat found;
};

static PyObject *seen(const struct looked *at, Py_ssize_t count)
{
    PyObject *list = PyList_New(count);

    for (Py_ssize_t i = 0; list != NULL && i < count; i++) {
        const struct stat *it = &at[i].found;
        PyObject *entry =
            at[i].error != 0
                ? PyLong_FromLong(at[i].error)
                : Py_BuildValue("iLLLKKK", (int)it->st_mode, (long long)it->st_size,
                                (long long)it->st_blocks * BLOCK,
                                it->st_mtim.tv_sec * 1000000000LL + it->st_mtim.tv_nsec,
                                (unsigned long long)it->st_dev, (unsigned long long)it->st_ino,
                                (unsigned long long)it->st_nlink);

        if (entry == NULL || PyList_SetItem(list, i, entry) != 0)
            Py_CLEAR(list);
    }
    return list;
}

static PyObject *look(PyObject *Py_UNUSED(module), PyObject *args)
{
    int folder;
    PyObject *given, *names, *list = NULL;
    struct looked *at;
    Py_ssize_t count, taken = 0, length;

    if (!PyArg_ParseTuple(args, "iO", &folder, &given))
        return NULL;
    names = PySequence_Tuple(given);
    if (names == NULL)
        return NULL;
    count = PyTuple_Size(names);
    at = PyMem_Calloc(count > 0 ? (size_t)count : 1, sizeof *at);
    if (at == NULL)
        PyErr_NoMemory();
    else
        for (; taken < count; taken++)
            if (PyBytes_AsStringAndSize(PyTuple_GetItem(names, taken), &at[taken].name,
                                        &length) != 0 ||
                !is_name(at[taken].name, length))
                break;
    if (at != NULL && taken == count) {
        Py_BEGIN_ALLOW_THREADS
        for (Py_ssize_t i = 0; i < count; i++)
            if (fstatat(folder, at[i].name, &at[i].found, AT_SYMLINK_NOFOLLOW) != 0)
                at[i].error = errno;
        Py_END_ALLOW_THREADS
        list = seen(at, count);
    }
    PyMem_Free(at);
    Py_DECREF(names);
    return list;
}

static PyMethodDef methods[] = {
    {"look", look, METH_VARARGS,
     "Of each name (mode, size, bytes taken, mtime_ns, device, inode, links), or an errno."},
    {"unlink_judged", unlink_judged, METH_VARARGS,
     "What the end of each file gave back, in bytes, or -1 where it was left as it is."},
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
    .m_name = "_unlinking",
    .m_doc = "Many files of one folder unlinked, each looked at first.",
    .m_methods = methods,
    .m_slots = slots,
};

PyMODINIT_FUNC PyInit__unlinking(void)
{
    return PyModuleDef_Init(&definition);
}
