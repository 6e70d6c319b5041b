"""What producers, workers and readers must agree on: wire contracts, tables, names, errors.

Imports nothing of the other packages. ``__preceptor__`` lets the others tell this package from
a stranger of the same name.
"""

__preceptor__ = True
__version__ = "0.1.0"
