/* `lifecycle_sync.observe._native`: the walk of a root in C, for `observe/native_walker.py`. */
#include "module.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* What the Python side was written for; another number, and it is not used. */
#define INTERFACE 1
#define TAKEN_MAX 64

/* -- making -------------------------------------------------------------------------------- */

static int read_own(PyObject *pairs, struct terms *terms)
{
    PyObject *list = PySequence_List(pairs);
    Py_ssize_t count = list == NULL ? -1 : PyList_Size(list);

    if (count > 0) {
        terms->own = calloc((size_t)count, sizeof *terms->own);
        if (terms->own == NULL)
            PyErr_NoMemory();
    }
    for (Py_ssize_t i = 0; i < count && !PyErr_Occurred(); i++) {
        unsigned long long device, inode;
        PyObject *pair = PyList_GetItem(list, i);

        if (!PyTuple_Check(pair))
            PyErr_SetString(PyExc_TypeError, "own: pairs of device and inode");
        else if (PyArg_ParseTuple(pair, "KK", &device, &inode))
            terms->own[terms->own_count++] = (struct own){device, inode};
    }
    Py_XDECREF(list);
    return PyErr_Occurred() ? -1 : 0;
}

static PyObject *given(PyObject *object)
{
    if (object == Py_None)
        return NULL;
    Py_INCREF(object);
    return object;
}

static PyObject *walk_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *words[] = {"root", "rules_hash", "private_name", "margin_ns", "own",
                            "default_rules", "stable_inodes", "sift", "check", "now", "fs", NULL};
    const char *root, *hash, *private_name;
    Py_ssize_t root_bytes, hash_bytes;
    long long margin_ns;
    int default_rules, stable_inodes;
    PyObject *own, *sift, *check, *now, *fs;
    struct terms terms = {0};
    struct walk *walk;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "y#y#yLOppOOOO", words, &root, &root_bytes,
                                     &hash, &hash_bytes, &private_name, &margin_ns, &own,
                                     &default_rules, &stable_inodes, &sift, &check, &now, &fs))
        return NULL;
    if (hash_bytes != DIGEST_BYTES || memchr(root, '\0', (size_t)root_bytes) != NULL) {
        PyErr_SetString(PyExc_ValueError, "a hash of 16 bytes, and a root without a NUL");
        return NULL;
    }
    memcpy(terms.rules_hash, hash, DIGEST_BYTES);
    terms.default_rules = default_rules;
    terms.stable_inodes = stable_inodes;
    terms.sift = sift != Py_None;
    terms.margin_ns = margin_ns;
    walk = (struct walk *)((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);
    if (walk == NULL)
        return NULL;
    if (read_own(own, &terms) == 0) {
        terms.private_name = strdup(private_name);
        if (terms.private_name != NULL)
            walk->journey = journey_new(&terms, root, (size_t)root_bytes);
        if (walk->journey == NULL)
            PyErr_NoMemory();
    }
    if (walk->journey == NULL) {
        free(terms.own);
        free(terms.private_name);
        Py_DECREF(walk);
        return NULL;
    }
    walk->sift = given(sift);
    walk->check = given(check);
    walk->now = given(now);
    walk->fs = given(fs);
    return (PyObject *)walk;
}

static PyObject *walk_close(PyObject *self, PyObject *Py_UNUSED(args))
{
    struct walk *walk = (struct walk *)self;
    struct hand hand;

    hand_begin(&hand, walk, true);
    journey_stop(walk->journey, &hand.source);
    Py_RETURN_NONE;
}

static void walk_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    struct walk *walk = (struct walk *)self;

    if (walk->journey != NULL) {
        Py_XDECREF(walk_close(self, NULL));
        journey_free(walk->journey);
    }
    Py_XDECREF(walk->sift);
    Py_XDECREF(walk->check);
    Py_XDECREF(walk->now);
    Py_XDECREF(walk->fs);
    Py_XDECREF(walk->error_type);
    Py_XDECREF(walk->error_value);
    Py_XDECREF(walk->error_traceback);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type);
}

/* -- listings ------------------------------------------------------------------------------ */

/* Bytes from memory of the listing, which goes: a large one is not there twice as a whole. */
static PyObject *moved(void *memory, size_t bytes)
{
    PyObject *result = PyBytes_FromStringAndSize(memory, (Py_ssize_t)bytes);

    free(memory);
    return result;
}

static PyObject *racy_of(struct listing *listing)
{
    PyObject *positions = PyTuple_New((Py_ssize_t)listing->racy_count);

    for (size_t i = 0; i < listing->racy_count && positions != NULL; i++) {
        PyObject *position = PyLong_FromSize_t(listing->racy[i]);

        if (position == NULL || PyTuple_SetItem(positions, (Py_ssize_t)i, position) != 0)
            Py_CLEAR(positions);
    }
    free(listing->racy);
    return positions;
}

static PyObject *path_of(const struct node *node)
{
    PyObject *path = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)journey_path(node, NULL));

    if (path != NULL)
        journey_path(node, PyBytes_AsString(path));
    return path;
}

/* (path, inode, error), or with 0 for the error (..., signature, files, bytes, ignored, specials,
   names, kinds, tuples, owners, atimes, racy). */
static PyObject *listing_of(struct node *node)
{
    struct listing listing = node->listing;
    size_t count = listing.count;
    PyObject *path = path_of(node);
    PyObject *signature;

    if (listing.error != 0)
        return Py_BuildValue("(NLi)", path, (long long)node->inode, listing.error);
    node->listing = (struct listing){0};
    if (listing.has_signature) {
        signature = PyBytes_FromStringAndSize((const char *)listing.signature, DIGEST_BYTES);
    } else {
        Py_INCREF(Py_None);
        signature = Py_None;
    }
    return Py_BuildValue(
        "(NLiNKLKKNNNNNN)", path, (long long)node->inode, 0, signature,
        (unsigned long long)count, (long long)listing.byte_count,
        (unsigned long long)listing.ignored, (unsigned long long)listing.specials,
        moved(listing.names, listing.names_bytes - (count > 0)), moved(listing.kinds, count),
        moved(listing.tuples, 32 * count), moved(listing.owners, 16 * count),
        moved(listing.atimes, 8 * count), racy_of(&listing));
}

static PyObject *listings_of(struct walk *walk, struct hand *hand, struct node **taken,
                             size_t count)
{
    PyObject *listings = PyList_New(0);

    for (size_t i = 0; i < count; i++) {
        PyObject *listing = listings == NULL ? NULL : listing_of(taken[i]);

        if (listing == NULL || PyList_Append(listings, listing) != 0)
            Py_CLEAR(listings);
        Py_XDECREF(listing);
        journey_release(walk->journey, &hand->source, taken[i]);
    }
    return listings;
}

static PyObject *walk_next(PyObject *self, PyObject *args)
{
    struct walk *walk = (struct walk *)self;
    struct node *taken[TAKEN_MAX];
    enum answer answer;
    struct hand hand;
    size_t count = 0;
    unsigned int most;

    if (!PyArg_ParseTuple(args, "I", &most))
        return NULL;
    if (walk->taking) {
        PyErr_SetString(PyExc_RuntimeError, "another thread takes from this walk");
        return NULL;
    }
    walk->taking = true;
    hand_begin(&hand, walk, true);
    if (walk->fs == NULL)
        hand.state = PyEval_SaveThread();
    answer = journey_next(walk->journey, &hand.source, taken,
                          most < TAKEN_MAX ? most : TAKEN_MAX, &count);
    enter(&hand);
    walk->taking = false;
    if (answer == SOME || answer == NONE)
        return listings_of(walk, &hand, taken, count);
    if (answer == ENDED && walk->error_type != NULL) {
        PyErr_Restore(walk->error_type, walk->error_value, walk->error_traceback);
        walk->error_type = walk->error_value = walk->error_traceback = NULL;
        return NULL;
    }
    if (answer == ENDED && walk->journey->failure != 0)
        return PyErr_NoMemory();
    Py_RETURN_NONE;
}

static PyObject *walk_work(PyObject *self, PyObject *Py_UNUSED(args))
{
    struct walk *walk = (struct walk *)self;
    struct hand hand;

    if (walk->fs != NULL) {
        PyErr_SetString(PyExc_RuntimeError, "file operations in Python are for one thread");
        return NULL;
    }
    hand_begin(&hand, walk, false);
    hand.state = PyEval_SaveThread();
    journey_work(walk->journey, &hand.source);
    enter(&hand);
    Py_RETURN_NONE;
}

/* -- the module ---------------------------------------------------------------------------- */

static PyMethodDef walk_methods[] = {
    {"next", walk_next, METH_VARARGS,
     "The next listings, at most so many; none where there are none yet, None at the end."},
    {"work", walk_work, METH_NOARGS, "Read ahead in this thread until the walk ends."},
    {"close", walk_close, METH_NOARGS, "End the walk; threads that read for it soon stop."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot walk_slots[] = {
    {Py_tp_doc, "A walk of a root; see native_walker.py."},
    {Py_tp_new, walk_new},
    {Py_tp_dealloc, walk_dealloc},
    {Py_tp_methods, walk_methods},
    {0, NULL},
};

static PyType_Spec walk_spec = {
    .name = "lifecycle_sync.observe._native.Walk",
    .basicsize = sizeof(struct walk),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = walk_slots,
};

static PyObject *digest(PyObject *Py_UNUSED(module), PyObject *data)
{
    struct blake2b state;
    uint8_t result[DIGEST_BYTES];
    char *bytes;
    Py_ssize_t size;

    if (PyBytes_AsStringAndSize(data, &bytes, &size) != 0)
        return NULL;
    blake2b_begin(&state);
    blake2b_add(&state, bytes, (size_t)size);
    blake2b_end(&state, result);
    return PyBytes_FromStringAndSize((const char *)result, DIGEST_BYTES);
}

static PyObject *refusal(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(args))
{
    struct statx found;

    /* Old kernels lack the call, and old containers forbid it. */
    if (statx(AT_FDCWD, "/", AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS, &found) != 0)
        return PyLong_FromLong(errno);
    return PyLong_FromLong(0);
}

static PyMethodDef methods[] = {
    {"digest", digest, METH_O, "BLAKE2b with 16 bytes of some bytes."},
    {"refusal", refusal, METH_NOARGS, "The errno with which the kernel refuses statx, or 0."},
    {NULL, NULL, 0, NULL},
};

static int fill(PyObject *module)
{
    PyObject *type = PyType_FromModuleAndSpec(module, &walk_spec, NULL);
    int failed = type == NULL || PyModule_AddObjectRef(module, "Walk", type) != 0 ||
                 PyModule_AddIntConstant(module, "INTERFACE", INTERFACE) != 0 ||
                 PyModule_AddIntConstant(module, "MOUNT_POINT", MOUNT_POINT) != 0 ||
                 PyModule_AddIntConstant(module, "SWAPPED", SWAPPED) != 0;

    Py_XDECREF(type);
    return failed ? -1 : 0;
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, fill},
    {0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_native",
    .m_doc = "The walk of a root in C.",
    .m_methods = methods,
    .m_slots = slots,
};

PyMODINIT_FUNC PyInit__native(void)
{
    return PyModuleDef_Init(&definition);
}
