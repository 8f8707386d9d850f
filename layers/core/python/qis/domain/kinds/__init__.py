"""Values that are more than one number: options chains, corporate actions, curves, matrices and free JSON.

``record`` says what such a value is, ``structures`` makes the structure of a series from its settings, and
``fusing`` reconciles claims of records field by field. Modules of single kinds are read when a series needs
them, so that a function that only sees numbers does not pay for them.
"""
