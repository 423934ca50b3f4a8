/* `lifecycle_sync.vault._lines`: what the versions of a manifest hold, read off its lines.
 *
 * Lines of versions as this program writes them are read here, which are nearly all; the caller gets
 * every other line as it is. `held.py` says the same in Python, and is what counts. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <string.h>

/* What the Python side was written for; another number, and it is not used. */
#define INTERFACE 1
#define DIGEST 32
#define ID 16
/* The digest, and the byte that says by which algorithm. */
#define KEY (DIGEST + 1)
#define ALGORITHMS 8
/* No line of a version is shorter, with these names and lengths. */
#define LINE_MIN 200
/* A time as text, with what stands between two. */
#define TIME_MAX 21

#define HEAD "{\"event\":\"version\",\"file\":\""
#define PATH "\",\"path\":\""
#define CONTENT "\",\"content\":\""
#define VERSION "\",\"version\":\""
#define AT "\"at\":"

/* A piece of text that is not ours. */
struct piece {
    const char *at;
    size_t length;
};

struct algorithm {
    struct piece name;
    char code;
};

/* What is found, and room for as much as there can be. */
struct found {
    char *keys, *ids, *times;
    size_t count, times_length;
    struct algorithm algorithms[ALGORITHMS];
    int known;
};

/* Passes over what has to stand there; whether it did. */
static int skip(struct piece *line, const char *expected)
{
    size_t length = strlen(expected);

    if (line->length < length || memcmp(line->at, expected, length) != 0)
        return 0;
    line->at += length;
    line->length -= length;
    return 1;
}

static int pass(struct piece *line, size_t length)
{
    if (line->length < length)
        return 0;
    line->at += length;
    line->length -= length;
    return 1;
}

static int digit_of(char it)
{
    if (it >= '0' && it <= '9')
        return it - '0';
    it |= 0x20;
    return it >= 'a' && it <= 'f' ? it - 'a' + 10 : -1;
}

/* So many bytes from twice as many hexadecimal digits. */
static int take_hex(struct piece *line, char *into, size_t bytes)
{
    if (line->length < 2 * bytes)
        return 0;
    for (size_t i = 0; i < bytes; i++) {
        int high = digit_of(line->at[2 * i]), low = digit_of(line->at[2 * i + 1]);

        if (high < 0 || low < 0)
            return 0;
        into[i] = (char)(high << 4 | low);
    }
    return pass(line, 2 * bytes);
}

/* A path without escapes ends with the first quotation mark. */
static int pass_path(struct piece *line)
{
    const char *quote = memchr(line->at, '"', line->length);
    size_t length;

    if (quote == NULL)
        return 0;
    length = (size_t)(quote - line->at);
    return memchr(line->at, '\\', length) == NULL && pass(line, length);
}

static int take_algorithm(struct piece *line, const struct found *found, char *code)
{
    const char *colon = memchr(line->at, ':', line->length);

    for (int i = 0; colon != NULL && i < found->known; i++) {
        const struct algorithm *it = &found->algorithms[i];
        size_t length = (size_t)(colon - line->at);

        if (it->name.length == length && memcmp(it->name.at, line->at, length) == 0) {
            *code = it->code;
            return pass(line, length + 1);
        }
    }
    return 0;
}

/* The number that ends what is left of a line before its last brace: at most eighteen digits, or one
 * more where the first of them is no nine, which is what 64 bits hold. */
static int take_time(struct piece rest, long long *time)
{
    const char *begin = rest.at, *end, *first;
    unsigned long long value = 0;
    size_t digits, mark = strlen(AT);
    int negative;

    if (rest.length == 0 || begin[rest.length - 1] != '}')
        return 0;
    end = begin + rest.length - 1;
    for (first = end; first > begin && first[-1] >= '0' && first[-1] <= '9'; first--)
        ;
    digits = (size_t)(end - first);
    if (digits == 0 || digits > 19 || (digits == 19 && *first == '9'))
        return 0;
    for (const char *it = first; it < end; it++)
        value = value * 10 + (unsigned long long)(*it - '0');
    negative = first > begin && first[-1] == '-';
    first -= negative;
    if ((size_t)(first - begin) < mark || memcmp(first - mark, AT, mark) != 0)
        return 0;
    *time = negative ? -(long long)value : (long long)value;
    return 1;
}

/* Whether it is the line of a version that was understood; what it says is noted then. */
static int note(struct piece line, struct found *found)
{
    char *key = found->keys + found->count * KEY, *id = found->ids + found->count * ID;
    long long time;

    if (!skip(&line, HEAD) || !pass(&line, 2 * ID) || !skip(&line, PATH) || !pass_path(&line) ||
        !skip(&line, CONTENT) || !take_algorithm(&line, found, key + DIGEST) ||
        !take_hex(&line, key, DIGEST) || !skip(&line, VERSION) || !take_hex(&line, id, ID) ||
        !skip(&line, "\"") || !take_time(line, &time))
        return 0;
    found->times_length += (size_t)PyOS_snprintf(found->times + found->times_length, TIME_MAX + 1,
                                                 "%s%lld", found->count ? "," : "", time);
    found->count++;
    return 1;
}

/* All lines of a text that ends with one. */
static int read_all(struct piece text, struct found *found, PyObject *others)
{
    while (text.length > 0) {
        const char *end = memchr(text.at, '\n', text.length);
        struct piece line = {text.at, (size_t)(end - text.at)};

        if (!note(line, found)) {
            PyObject *other = PyBytes_FromStringAndSize(line.at, (Py_ssize_t)line.length);
            int failed = other == NULL || PyList_Append(others, other) != 0;

            Py_XDECREF(other);
            if (failed)
                return -1;
        }
        pass(&text, line.length + 1);
    }
    return 0;
}

/* The algorithms as they were given, (name, code) each: digests of another length are not for us. */
static int take_algorithms(PyObject *given, struct found *found)
{
    found->known = 0;
    for (Py_ssize_t i = 0; i < PyTuple_Size(given); i++) {
        struct algorithm *it = &found->algorithms[found->known];
        Py_ssize_t length;
        int code;

        if (found->known == ALGORITHMS) {
            PyErr_SetString(PyExc_ValueError, "too many algorithms");
            return -1;
        }
        if (!PyArg_ParseTuple(PyTuple_GetItem(given, i), "y#i", &it->name.at, &length, &code))
            return -1;
        it->name.length = (size_t)length;
        it->code = (char)code;
        found->known++;
    }
    return 0;
}

static int make_room(struct found *found, size_t length)
{
    size_t most = length / LINE_MIN + 1;

    found->keys = PyMem_Malloc(most * KEY);
    found->ids = PyMem_Malloc(most * ID);
    found->times = PyMem_Malloc(most * TIME_MAX + 1);
    if (found->keys != NULL && found->ids != NULL && found->times != NULL)
        return 0;
    PyErr_NoMemory();
    return -1;
}

static void free_room(struct found *found)
{
    PyMem_Free(found->keys);
    PyMem_Free(found->ids);
    PyMem_Free(found->times);
}

static PyObject *versions(PyObject *Py_UNUSED(module), PyObject *args)
{
    struct found found = {0};
    PyObject *algorithms, *others = NULL, *result = NULL;
    const char *text;
    Py_ssize_t length;

    if (!PyArg_ParseTuple(args, "y#O!", &text, &length, &PyTuple_Type, &algorithms))
        return NULL;
    if (length > 0 && text[length - 1] != '\n') {
        PyErr_SetString(PyExc_ValueError, "a text ends with a line");
        return NULL;
    }
    if (take_algorithms(algorithms, &found) == 0 && make_room(&found, (size_t)length) == 0 &&
        (others = PyList_New(0)) != NULL &&
        read_all((struct piece){text, (size_t)length}, &found, others) == 0)
        result = Py_BuildValue("y#y#s#nO", found.keys, (Py_ssize_t)(found.count * KEY), found.ids,
                               (Py_ssize_t)(found.count * ID), found.times,
                               (Py_ssize_t)found.times_length, (Py_ssize_t)found.count, others);
    Py_XDECREF(others);
    free_room(&found);
    return result;
}

static PyMethodDef methods[] = {
    {"versions", versions, METH_VARARGS,
     "Of the lines of a text (keys, ids, times, count, other lines), the first three in columns."},
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
    .m_name = "_lines",
    .m_doc = "What the versions of a manifest hold, read off its lines.",
    .m_methods = methods,
    .m_slots = slots,
};

PyMODINIT_FUNC PyInit__lines(void)
{
    return PyModuleDef_Init(&definition);
}
