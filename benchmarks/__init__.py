"""Speed of the course's code beside other libraries and other ways: ``make bench``, or ``python -m benchmarks``."""
