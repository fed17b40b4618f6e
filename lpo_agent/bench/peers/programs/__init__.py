"""The programs that run other optimizers, each in a process of its own.

They are copied and run outside of this package, perhaps by another Python. So they import the standard library, the
optimizer's package and each other, and nothing else.
"""
