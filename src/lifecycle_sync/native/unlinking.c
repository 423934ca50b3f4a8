/* `lifecycle_sync._unlinking`: many files of one folder unlinked, each looked at and barred from
 * writers first, for `FileOps.unlink_judged`, without the interpreter.
 *
 * Only what goes without a question is done here. Any other file is left as it is, and the caller
 * takes the Python way with it, which finds out why. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* What the Python side was written for; another number, and it is not used. */
#define INTERFACE 1
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

/* The files as they were given: a tuple of (name, (device, inode, size, mtime_ns)). */
static int take(PyObject *files, struct judged *taken)
{
    for (Py_ssize_t i = 0; i < PyTuple_Size(files); i++) {
        struct judged *file = &taken[i];
        Py_ssize_t length;

        if (!PyArg_ParseTuple(PyTuple_GetItem(files, i), "y#(KKLL)", &file->name, &length,
                              &file->device, &file->inode, &file->size, &file->mtime_ns))
            return -1;
        if (strlen(file->name) != (size_t)length || strchr(file->name, '/') != NULL) {
            PyErr_SetString(PyExc_ValueError, "not the name of a file in a folder");
            return -1;
        }
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

static PyMethodDef methods[] = {
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
