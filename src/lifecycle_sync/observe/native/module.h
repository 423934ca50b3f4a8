/* What the parts of the module share: the walk as Python has it, and a thread that works on it. */
#ifndef LIFECYCLE_MODULE_H
#define LIFECYCLE_MODULE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "journey.h"

struct walk {
    PyObject_HEAD
    struct journey *journey;
    bool taking; /* a thread is in `next` */
    PyObject *sift, *check, *now;
    PyObject *fs; /* file operations in Python, or NULL for the kernel's */
    /* The exception that ended the walk. */
    PyObject *error_type, *error_value, *error_traceback;
};

struct hand {
    struct source source;
    struct walk *walk;
    bool takes;           /* the thread that the walk is for, which may be told to stop */
    PyThreadState *state; /* while it does not hold the interpreter's lock */
};

/* Make ready a thread that holds the interpreter's lock. */
void hand_begin(struct hand *hand, struct walk *walk, bool takes);
/* Hold the lock, and give it back if it was not held before. */
bool enter(struct hand *hand);
void leave(struct hand *hand, bool entered);
/* Keep the exception that was raised, for whoever takes from the walk. Returns RAISED. */
int keep_exception(struct walk *walk);

extern const struct calls PYTHON_CALLS, KERNEL_CALLS;

#endif
