"""The rooms composed: the cycle, `LifecycleSync`, roots, rebuilding and the doctor."""
