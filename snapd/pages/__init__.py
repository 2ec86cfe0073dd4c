"""What snapd shows of the cameras and of itself over HTTP: a page, pictures, metrics.

A process of its own, because a crowd of viewers must not cost a snapshot anything: neither the interpreter's lock,
nor file descriptors, nor, on a busy host, its turn on a CPU (it is nicer than others). It is told what it shows by
the `snapd` that started it (`launcher`), through a socket (`channel`), and ends with it.
"""
