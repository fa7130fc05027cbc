"""Settings of all Python tests."""

from hypothesis import settings

# No deadlines, which would test how busy the machine is, and the same examples in every run.
settings.load_profile("ci")
