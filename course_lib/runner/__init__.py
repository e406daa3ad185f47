"""Runs notebooks headlessly, describes them, stores their outputs and reports on the machine."""
