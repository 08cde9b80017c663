"""One file per verb of `lea`: SUMMARY, `options(parser)` and `run(arguments)`.

Heavy libraries are imported inside `run`, so that `lea --help` answers at once.
"""
