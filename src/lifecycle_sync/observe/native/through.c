/* File operations in Python, as a test makes them fail, lie and change what is there; and what only
   Python can say: patterns, a clock that stands still, whether to stop. */
#include "module.h"

#include <errno.h>
#include <string.h>

void hand_begin(struct hand *hand, struct walk *walk, bool takes)
{
    *hand = (struct hand){.source = {walk->fs != NULL ? &PYTHON_CALLS : &KERNEL_CALLS, hand},
                          .walk = walk,
                          .takes = takes};
}

bool enter(struct hand *hand)
{
    PyThreadState *state = hand->state;

    if (state == NULL)
        return false;
    PyEval_RestoreThread(state);
    hand->state = NULL;
    return true;
}

void leave(struct hand *hand, bool entered)
{
    if (entered)
        hand->state = PyEval_SaveThread();
}

int keep_exception(struct walk *walk)
{
    if (walk->error_type == NULL)
        PyErr_Fetch(&walk->error_type, &walk->error_value, &walk->error_traceback);
    else
        PyErr_Clear();
    return RAISED;
}

/* An `OSError` as the kernel would have said it; everything else ends the walk. */
static int error_number(struct walk *walk)
{
    PyObject *type, *value, *traceback, *number;
    long error = 0;

    if (!PyErr_ExceptionMatches(PyExc_OSError))
        return keep_exception(walk);
    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    number = PyObject_GetAttrString(value, "errno");
    if (number != NULL && PyLong_Check(number))
        error = PyLong_AsLong(number);
    Py_XDECREF(number);
    PyErr_Clear();
    if (error <= 0 || error > 4095) {
        PyErr_Restore(type, value, traceback);
        return keep_exception(walk);
    }
    Py_XDECREF(type);
    Py_XDECREF(value);
    Py_XDECREF(traceback);
    return (int)-error;
}

/* -- numbers ------------------------------------------------------------------------------- */

/* An attribute, clamped to 64 bits; -1 with an exception. */
static int signed_of(PyObject *object, const char *name, int64_t *found)
{
    PyObject *number = PyObject_GetAttrString(object, name);
    int overflow = 0;

    if (number == NULL)
        return -1;
    *found = PyLong_AsLongLongAndOverflow(number, &overflow);
    Py_DECREF(number);
    if (overflow != 0)
        *found = overflow < 0 ? INT64_MIN : INT64_MAX;
    return PyErr_Occurred() ? -1 : 0;
}

static int unsigned_of(PyObject *object, const char *name, uint64_t *found)
{
    PyObject *number = PyObject_GetAttrString(object, name);

    if (number == NULL)
        return -1;
    *found = PyLong_AsUnsignedLongLong(number);
    Py_DECREF(number);
    return PyErr_Occurred() ? -1 : 0;
}

static int small_of(PyObject *object, const char *name, uint32_t *found)
{
    uint64_t number;

    if (unsigned_of(object, name, &number) != 0)
        return -1;
    *found = (uint32_t)number;
    return 0;
}

/* -- file operations in Python ------------------------------------------------------------- */

static struct hand *hand_of(struct source *source)
{
    return source->owner;
}

static int python_open_directory(struct source *source, const char *name, int parent)
{
    struct walk *walk = hand_of(source)->walk;
    PyObject *result;
    long fd;

    if (parent < 0)
        result = PyObject_CallMethod(walk->fs, "open_directory", "yO", name, Py_None);
    else
        result = PyObject_CallMethod(walk->fs, "open_directory", "yi", name, parent);
    if (result == NULL)
        return error_number(walk);
    fd = PyLong_AsLong(result);
    Py_DECREF(result);
    return fd < 0 ? keep_exception(walk) : (int)fd;
}

static int python_identify(struct source *source, int fd, struct identity *found)
{
    struct walk *walk = hand_of(source)->walk;
    PyObject *status = PyObject_CallMethod(walk->fs, "fstat", "i", fd);
    int error = 0;

    if (status == NULL)
        return error_number(walk);
    if (unsigned_of(status, "st_ino", &found->inode) != 0 ||
        unsigned_of(status, "st_dev", &found->device) != 0 ||
        unsigned_of(status, "st_nlink", &found->links) != 0)
        error = keep_exception(walk);
    Py_DECREF(status);
    return error;
}

static int add_name(struct walk *walk, struct names *names, PyObject *entry)
{
    PyObject *encoded = PyUnicode_EncodeFSDefault(entry);
    char *text;
    Py_ssize_t bytes;
    int error;

    if (encoded == NULL || PyBytes_AsStringAndSize(encoded, &text, &bytes) != 0)
        error = keep_exception(walk);
    else
        error = names_add(names, text, (size_t)bytes);
    Py_XDECREF(encoded);
    return error;
}

static int python_list(struct source *source, int fd, struct names *names)
{
    struct walk *walk = hand_of(source)->walk;
    PyObject *result = PyObject_CallMethod(walk->fs, "listdir", "i", fd);
    PyObject *entries;
    int error = 0;

    if (result == NULL)
        return error_number(walk);
    entries = PySequence_List(result);
    Py_DECREF(result);
    if (entries == NULL)
        return keep_exception(walk);
    for (Py_ssize_t i = 0; i < PyList_Size(entries) && error == 0; i++)
        error = add_name(walk, names, PyList_GetItem(entries, i));
    Py_DECREF(entries);
    return error;
}

static int python_look(struct source *source, int fd, const char *name, struct facts *found)
{
    struct walk *walk = hand_of(source)->walk;
    PyObject *method = PyObject_GetAttrString(walk->fs, "stat");
    PyObject *arguments = Py_BuildValue("(y)", name);
    PyObject *options = Py_BuildValue("{s:i,s:O}", "dir_fd", fd, "follow_symlinks", Py_False);
    PyObject *status = NULL;
    int error = 0;

    if (method != NULL && arguments != NULL && options != NULL)
        status = PyObject_Call(method, arguments, options);
    Py_XDECREF(method);
    Py_XDECREF(arguments);
    Py_XDECREF(options);
    if (status == NULL)
        return error_number(walk);
    if (unsigned_of(status, "st_ino", &found->inode) != 0 ||
        unsigned_of(status, "st_dev", &found->device) != 0 ||
        signed_of(status, "st_size", &found->size) != 0 ||
        signed_of(status, "st_mtime_ns", &found->mtime_ns) != 0 ||
        signed_of(status, "st_ctime_ns", &found->ctime_ns) != 0 ||
        signed_of(status, "st_atime_ns", &found->atime_ns) != 0 ||
        small_of(status, "st_mode", &found->mode) != 0 ||
        small_of(status, "st_uid", &found->uid) != 0 ||
        small_of(status, "st_gid", &found->gid) != 0 ||
        small_of(status, "st_nlink", &found->links) != 0)
        error = keep_exception(walk);
    Py_DECREF(status);
    return error;
}

static void python_close(struct source *source, int fd)
{
    struct walk *walk = hand_of(source)->walk;
    PyObject *type, *value, *traceback, *result;

    /* Also where a walk ends by an exception. */
    PyErr_Fetch(&type, &value, &traceback);
    result = PyObject_CallMethod(walk->fs, "close", "i", fd);
    if (result == NULL)
        PyErr_Clear();
    Py_XDECREF(result);
    PyErr_Restore(type, value, traceback);
}

/* -- what only Python can say -------------------------------------------------------------- */

static int ask_now(struct source *source, int64_t *ns)
{
    struct hand *hand = hand_of(source);
    PyObject *result;
    bool entered;
    int error = 0;

    if (hand->walk->now == NULL)
        return kernel_now(source, ns);
    entered = enter(hand);
    result = PyObject_CallNoArgs(hand->walk->now);
    if (result != NULL)
        *ns = PyLong_AsLongLong(result);
    if (PyErr_Occurred())
        error = keep_exception(hand->walk);
    Py_XDECREF(result);
    leave(hand, entered);
    return error;
}

static int ask_sift(struct source *source, const char *directory, size_t directory_bytes,
                    const char *joined, size_t bytes, size_t count, uint8_t *marks)
{
    struct hand *hand = hand_of(source);
    bool entered = enter(hand);
    /* As Python has a list of names: a NUL between them, none after the last. */
    PyObject *result =
        PyObject_CallFunction(hand->walk->sift, "y#y#", directory, (Py_ssize_t)directory_bytes,
                              joined, (Py_ssize_t)(bytes - 1));
    char *text;
    Py_ssize_t found;
    int error = 0;

    if (result == NULL) {
        error = keep_exception(hand->walk);
    } else if (result == Py_None) {
        memset(marks, 0, count);
    } else if (PyBytes_AsStringAndSize(result, &text, &found) != 0) {
        error = keep_exception(hand->walk);
    } else if ((size_t)found != count) {
        PyErr_SetString(PyExc_ValueError, "one mark a name");
        error = keep_exception(hand->walk);
    } else {
        memcpy(marks, text, count);
    }
    Py_XDECREF(result);
    leave(hand, entered);
    return error;
}

static int ask_pause(struct source *source)
{
    struct hand *hand = hand_of(source);
    struct journey *journey = hand->walk->journey;
    PyObject *result;
    bool entered, stopped;
    int error = 0;

    pthread_mutex_lock(&journey->lock);
    stopped = journey->stopped;
    pthread_mutex_unlock(&journey->lock);
    if (stopped)
        return STOPPED;
    if (!hand->takes)
        return 0;
    entered = enter(hand);
    result = PyErr_CheckSignals() == 0 ? PyObject_CallNoArgs(hand->walk->check) : NULL;
    if (result == NULL)
        error = keep_exception(hand->walk);
    Py_XDECREF(result);
    leave(hand, entered);
    return error;
}

const struct calls PYTHON_CALLS = {
    .open_directory = python_open_directory,
    .identify = python_identify,
    .list = python_list,
    .look = python_look,
    .close = python_close,
    .now = ask_now,
    .sift = ask_sift,
    .pause = ask_pause,
};

const struct calls KERNEL_CALLS = {
    .open_directory = kernel_open_directory,
    .identify = kernel_identify,
    .list = kernel_list,
    .look = kernel_look,
    .close = kernel_close,
    .now = ask_now,
    .sift = ask_sift,
    .pause = ask_pause,
};
