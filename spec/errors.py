"""The two errors that the specification asks for (SPEC.md, clause E1 and E2)."""


class SpecError(ValueError):
    """An argument that the specification does not allow.

    The message says what was expected and ends in what was received.
    """


class UnsupportedError(NotImplementedError):
    """A case that the specification allows and this backend declares it cannot do.

    A backend lists such cases in ``Backend.unsupported``; meeting one, it raises this error
    instead of computing something else.
    """
